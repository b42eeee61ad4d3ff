"""Regular patterns: power at the frequencies of the upsampling's grid that the originals haven't."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product

import torch
from torch import Tensor

from hfgen.diagnosis.gates.context import Context, brightness
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.gates.fourier import frequencies
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 2.0, 1.0
_PERIODS = (2, 4, 8, 16)
_ROOM = 4
_ROUNDING = 1 / 12


def patterns(context: Context) -> Iterator[Finding]:
    """Checkerboards and grids, by the harmonics of the steps in which the decoder doubles its grid.

    At a harmonic, the power above the original's, or above what it would be at the gain of the frequencies around it;
    and what all images have alike, whatever the image. A network that only loses detail has neither.
    """
    if not context.reconstructs or context.broken("range"):
        return
    made, real = (torch.fft.fft2(_levels(part), norm="forward") for part in (context.outputs, context.inputs))
    regions = list(harmonics(made.shape[-1], context.factor))
    if not regions:
        return
    columns, high = _columns(made, real, regions), _high(real)
    fine = torch.tensor([bool(is_high(made.shape[-1])[region]) for region in regions])

    def statistic(means: Tensor) -> Tensor:
        excess = torch.stack([_excess(part) for part in means[:, :-1].unflatten(1, (len(regions), -1)).unbind(1)], -1)
        total, sharp = excess.sum(-1).clamp_min(0), excess[:, fine].sum(-1).clamp_min(0)
        return torch.stack([total.sqrt(), sharp / means[:, -1].clamp_min(1e-9)], -1)

    amplitude, share = bootstrap_of_means(torch.cat([*columns, high[:, None]], 1), statistic, seed=context.seed)
    largest = max(regions, key=lambda region: _of(region, regions, columns))
    period = _period(largest, made.shape[-1])
    yield check(
        "pattern",
        amplitude,
        "amplitude of the pattern, root mean square, in levels of 255",
        warning=_WARNING,
        fault=_FAULT,
        text=f"Reconstructions have a regular pattern, most of it with a period of {period} pixels, as a "
        "decoder's upsampling leaves it.",
        remedy="continue the training with an adversarial or perceptual term (recipe vaegan-finetune-decoder), or take "
        "resize + convolution instead of transposed convolutions with kernels that the stride doesn't divide",
        share=min(share.value, 99.0),
        of="high-frequency power",
    )


def _levels(images: Tensor) -> Tensor:
    """Brightness in levels of 255, (N, R, R)."""
    return brightness(images) * 127.5


def harmonics(side: int, factor: int) -> Iterator[tuple[int, int]]:
    """(i, j): bins of the grid's harmonics, but for its mean; each with as much room around it that there is a rest."""
    periods = [p for p in _PERIODS if p <= max(factor, 2) and side % p == 0 and side // p >= _ROOM]
    step = side // max(periods) if periods else side
    for i in range(0, side, step):
        for j in range(0, side, step):
            # Of each pair of conjugate bins, one.
            if (i, j) != (0, 0) and (i, j) <= (-i % side, -j % side):
                yield i, j


def without(bins: Tensor, places: Iterable[tuple[int, int]], reach: int = 0) -> Tensor:
    """Of bins (R, R), true or false: not those at some places and their conjugates, nor as far around as `reach`."""
    side, kept = len(bins), bins.clone()
    for (i, j), a, b in product(places, range(-reach, reach + 1), range(-reach, reach + 1)):
        kept[(i + a) % side, (j + b) % side] = kept[(a - i) % side, (b - j) % side] = False
    return kept


def _around(bins: Tensor, place: tuple[int, int]) -> Tensor:
    """Mean over the bins at a distance of 2 from one, (N,)."""
    ring = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if max(abs(a), abs(b)) == 2]
    side = bins.shape[-1]
    return torch.stack([bins[:, (place[0] + a) % side, (place[1] + b) % side] for a, b in ring], 1).mean(1)


def _columns(made: Tensor, real: Tensor, regions: list[tuple[int, int]]) -> list[Tensor]:
    """For each region (N, 7): powers there and around, of both sides; error there, complex, and its power around."""
    side = made.shape[-1]
    floor, error = _ROUNDING / side**2, made - real
    powers = [part.abs().square() + floor for part in (made, real)]
    mean_error = error.mean(0).abs().square().expand_as(powers[0])
    found = []
    for i, j in regions:
        double = 1 if (i, j) == (-i % side, -j % side) else 2
        there = [double * power[:, i, j] for power in powers]
        around = [double * _around(power, (i, j)) for power in powers]
        own = [double**0.5 * error[:, i, j].real, double**0.5 * error[:, i, j].imag]
        found.append(torch.stack([*there, *around, *own, double * _around(mean_error, (i, j))], 1))
    return found


def _excess(means: Tensor) -> Tensor:
    """Power that a network which only loses detail wouldn't have at a harmonic (R,), from means (R, 7)."""
    made, real, made_around, real_around, across, down, error_around = means.unbind(-1)
    varied = made - real * (made_around / real_around).clamp_min(1)
    same = across.square() + down.square() - error_around
    return torch.maximum(varied, same)


def _of(region: tuple[int, int], regions: list[tuple[int, int]], columns: list[Tensor]) -> float:
    return float(_excess(columns[regions.index(region)].mean(0, keepdim=True)))


def _period(region: tuple[int, int], side: int) -> int:
    """Pixels from one repetition to the next."""
    return side // math.gcd(side, *region)


def is_high(side: int) -> Tensor:
    """Which bins (R, R) lie above .25 cycles/pixel."""
    return frequencies(side) > 0.25


def _high(real: Tensor) -> Tensor:
    """Power of the originals above .25 cycles/pixel, summed, (N,)."""
    return real.abs().square()[:, is_high(real.shape[-1])].sum(1)
