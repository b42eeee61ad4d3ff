"""White noise that the network adds: power that no conditional mean has, as strong at all frequencies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context, brightness
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.gates.fourier import frequencies, transform, window_power
from hfgen.diagnosis.gates.patterns import harmonics, without

_FAULT, _WARNING = 4.0, 2.0
_FINE, _COARSE = (0.35, 1.0), (0.2, 0.35)
# Detail that is made up, or hit by chance, falls with the frequency as images do.
_WHITE, _ALIKE = 0.6, (0.7, 1.4)
_NORMAL_MAD, _LEVELS = 1.4826, 127.5
_SPREAD = 8
# After these, what is left of the outputs is more than noise.
_UNLIKE = ("range", "over_sharpened", "few_levels", "stretched", "scaled", "tilted")
# Of the high-frequency power: a healthy network's own ripple is below.
_COUNTS, _MUCH = 0.05, 0.08


def noise(context: Context) -> Iterator[Finding]:
    """The least of some bounds on its variance, at the finest frequencies; no fault but noise passes all of them.

    The power beyond that of a conditional mean, E |Y|^2 - |E Y X*|, which is 0 however much is lost. What is left of Y
    after each frequency's best gain on X, which is 0 of blur and sharpening. And unless it is as strong at coarser
    frequencies, the median of the finest diagonal differences (Donoho & Johnstone 1994), which detail that is
    sharpened or made up moves little.
    """
    if not context.reconstructs or context.broken(*_UNLIKE):
        return
    made, real = (brightness(part) * _LEVELS for part in (context.correct(context.outputs), context.inputs))
    bounds = _bounds(made, real, context)
    fine, coarse = (_in_band(bounds, band, context) for band in (_FINE, _COARSE))
    if not _ALIKE[0] * coarse.mean() < fine.mean() < _ALIKE[1] * coarse.mean():
        fine = _least([fine, _of_differences(made)])
    excess = metrics.bootstrap_mean(fine, seed=context.seed)
    value, low, high = (max(value, 0.0) ** 0.5 for value in (excess.value, excess.low, excess.high))
    power = _high_share(context, excess.value)
    yield check(
        "white_noise",
        metrics.Estimate(value, low, high, excess.n),
        "deviation of the white noise in the reconstructions, in levels of 255",
        warning=_WARNING,
        fault=_FAULT if power > _MUCH else 255.0,
        text="Reconstructions are noisy: the network adds white noise, which doesn't follow from the image.",
        remedy="decode posterior means instead of samples; in training, raise --model.kl_weight less steeply, lower "
        "--model.adversarial_weight or raise --max_images",
        share=power,
        of="high-frequency power",
        telling=bool(fine.mean() > _WHITE * coarse.mean()) and power > _COUNTS,
    )


def _least(bounds: list[Tensor]) -> Tensor:
    return min(bounds, key=lambda each: float(each.mean()))


def _bounds(made: Tensor, real: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Of each image and bin, (N, R, R): power beyond a conditional mean's, and what the bin's best gain leaves."""
    count, side = len(made), made.shape[-1]
    made, real = (transform(part, context.window) for part in (made, real))
    shared = (made * real.conj()).mean(0)
    phase, gain = shared / shared.abs().clamp_min(1e-12), shared / real.abs().square().mean(0).clamp_min(1e-12)
    beyond = made.abs().square() - (made * real.conj() * phase.conj()).real
    left = (made - gain * real).abs().square() * count / max(count - 1, 1)
    scale = side**2 / window_power(side, context.window)
    return scale * beyond, scale * left


def _in_band(bounds: tuple[Tensor, Tensor], band: tuple[float, float], context: Context) -> Tensor:
    """The least of the bounds' means over a band, (N,)."""
    places = [bins for bins in _bins(band, bounds[0].shape[-1], context) if bins.any()]
    return _least([part[:, bins].mean(1) for part, bins in product(bounds, places)])


def _bins(band: tuple[float, float], side: int, context: Context) -> Iterator[Tensor]:
    """Those of a band (R, R) without the harmonics of the upsampling; after a pattern, also without their sidebands."""
    radius = frequencies(side)
    bins = (radius >= band[0]) & (radius < band[1])
    bins = without(bins, harmonics(side, context.factor), reach=int(context.window == "hann"))
    yield bins
    if context.broken("pattern"):
        # A board that the image modulates spreads as far as the image's own detail.
        yield without(bins, harmonics(side, 2), reach=side // _SPREAD)


def _of_differences(values: Tensor) -> Tensor:
    """The variance of noise in each image (N, H, W): (N,)."""
    height, width = (side // 2 * 2 for side in values.shape[1:])
    blocks = values[:, :height, :width].unfold(1, 2, 2).unfold(2, 2, 2)
    diagonal = ((blocks[..., 0, 0] - blocks[..., 0, 1] - blocks[..., 1, 0] + blocks[..., 1, 1]) / 2).flatten(1)
    # About the median: a checkerboard has all differences alike, and is no noise.
    centred = diagonal - diagonal.median(1, keepdim=True).values
    return (_NORMAL_MAD * centred.abs().median(1).values).square()


def _high_share(context: Context, variance: float) -> float:
    """What so much white noise adds above .25 cycles/pixel, over what the originals have there."""
    bins = context.real.shape[-1] * context.real.shape[-2]
    real = float(context.spectrum.high.mean())
    return min(max(variance, 0.0) / 255**2 / bins / max(real, 1e-12), 99.0)
