"""Intervals for sets that share images: two models against the same real ones, reconstructions and their originals.

What the real images happen to be moves the numbers of both models, together or apart. So two intervals that overlap
don't tell a tie, and the variances of the two numbers can't be added: what is shared must be followed through.
The kernel distance and the ratio are followed to first order (Hoeffding; the delta method): a real image counts with
what it does to the difference, a generated one with what it does to its own model's number. The coverage is followed
by the half-sample jackknife (see `hfgen.metrics.intervals`), whose halves of the real images are the same for both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_finite
from hfgen.metrics.distances import centred_square, kernel_excess, kernel_spread, kernel_sums
from hfgen.metrics.intervals import Estimate, local_error, squared_distance_estimate
from hfgen.metrics.neighbours import prdc

_NORMAL_95 = 1.96
_SPLITS = 25
_ROWS = 512


def kernel_distance_difference(real: Tensor, first: Tensor, second: Tensor) -> Estimate:
    """`kernel_distance` of `first` from `real` minus that of `second`; features (N, D), (M, D), (L, D).

    Raises:
        UserError: sets of several widths, fewer than two rows, NaN or infinity.
    """
    real, first, second = _check_three(real, first, second, at_least=2)
    parts = (
        kernel_excess(real, first) - kernel_excess(real, second),
        kernel_excess(first, real),
        -kernel_excess(second, real),
    )
    n, m, k = map(len, (real, first, second))
    chance = 2 * kernel_spread(first, first) / m**2 + 2 * kernel_spread(second, second) / k**2
    # Of the real images among themselves, nothing is left in the difference.
    chance += 4 * kernel_spread(real, first) / (n * m) + 4 * kernel_spread(real, second) / (n * k)
    return _linear(parts, factor=2, chance=chance)


def paired_kernel_distance(x: Tensor, y: Tensor) -> Estimate:
    """The squared MMD of `kernel_distance` between images and what was made of each, in the same order (N, D).

    A pair isn't independent, so its own kernel is left out: the U-statistic over pairs (Gretton 2012, Lemma 6), which
    is unbiased whatever joins the two images of a pair.

    Raises:
        UserError: not two sets of one shape, fewer than two rows, NaN or infinity.
    """
    x, y = check_feature_pair(x, y, at_least=2, names=("x", "y"))
    if len(x) != len(y):
        raise UserError(f"y: {len(y)} images for {len(x)} of x; give pairs, in one order")
    own_x, own_y, across = (_kernel_of_rows(a, b) for a, b in ((x, x), (y, y), (x, y)))
    sums = kernel_sums(x, x) - own_x + kernel_sums(y, y) - own_y - kernel_sums(x, y) - kernel_sums(y, x) + 2 * across
    excess = sums / (len(x) - 1)

    def kernels(rows: slice) -> Tensor:
        a, b = x[rows], y[rows]
        xx, yy, xy, yx = ((u @ v.T / x.shape[1] + 1).pow(3) for u, v in ((a, x), (b, y), (a, y), (b, x)))
        return xx + yy - xy - yx

    chance = 2 * centred_square(kernels, len(x), len(x), own=True) / len(x) ** 2
    # A pair's images are alike, so that the distance is seldom near chance.
    variance = max(4 * float(excess.var()) / len(x) - chance, chance)
    return squared_distance_estimate(float(excess.mean()), variance, chance, len(x))


def ratio_difference(first: Tensor, second: Tensor, real: Tensor) -> Estimate:
    """(mean of `first` - mean of `second`) / mean of `real`, of one value an image: (N,), (M,), (L,), none paired.

    Raises:
        UserError: not (N,), fewer than two values, NaN or infinity, a mean of `real` of 0.
    """
    first, second, real = (
        _check_values(values, name) for values, name in ((first, "first"), (second, "second"), (real, "real"))
    )
    reference = real.mean()
    if reference == 0:
        raise UserError("real: its mean is 0; use images that differ")
    difference = (first.mean() - second.mean()) / reference
    # The real images' part is the value's derivative; adding it to the value would count the value twice.
    parts = (first / reference, -second / reference, difference * (1 - real / reference))
    return _linear(parts, factor=1)


def coverage_difference(real: Tensor, first: Tensor, second: Tensor, k: int = 5, *, seed: int) -> Estimate:
    """Coverage (see `prdc`) of `real` by `first` minus that by `second`; features (N, D), (M, D), (L, D).

    Where the halves show no spread, it is as wide as that of a share of 0 (Wilson 1927).

    Raises:
        UserError: sets of several widths, k < 1, fewer than 2 (k + 1) rows, NaN or infinity.
    """
    if k < 1:
        raise UserError(f"k: {k} is not a number of neighbours; use 1 or more (5 is usual)")
    real, first, second = _check_three(real, first, second, at_least=2 * (k + 1))
    value = prdc(real, first, k).coverage - prdc(real, second, k).coverage
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for _ in range(_SPLITS):
        splits = [_halves(features, generator) for features in (real, first, second)]
        halves += [_coverage_gap(a, b, c, k) for a, b, c in zip(*splits, strict=True)]
    n = min(map(len, (real, first, second)))
    reach = _NORMAL_95 * float(local_error(torch.tensor(halves))) or _NORMAL_95**2 / (n + _NORMAL_95**2)
    return Estimate(value, max(value - reach, -1.0), min(value + reach, 1.0), n)


def _linear(parts: tuple[Tensor, ...], factor: int, chance: float = 0.0) -> Estimate:
    """The sum of the parts' means; each part's images are independent, and count `factor` times to first order.

    `chance`: the variance of the second-order part, which is twice in the parts'.
    """
    value = sum(float(part.mean()) for part in parts)
    variance = factor**2 * sum(float(part.var()) / len(part) for part in parts)
    reach = _NORMAL_95 * max(variance - chance, chance) ** 0.5
    return Estimate(value, value - reach, value + reach, min(map(len, parts)))


def _kernel_of_rows(x: Tensor, y: Tensor) -> Tensor:
    return ((x * y).mean(1) + 1).pow(3)


def _coverage_gap(real: Tensor, first: Tensor, second: Tensor, k: int) -> float:
    """By the expanded square, which is fast and blurs ties of duplicates: enough for a spread."""
    gaps = []
    for rows in real.split(_ROWS):
        radii = torch.cdist(rows, real).topk(k + 1, largest=False).values[:, -1]
        covered = [(torch.cdist(rows, fake).min(1).values < radii).double() for fake in (first, second)]
        gaps.append(covered[0] - covered[1])
    return float(torch.cat(gaps).mean())


def _halves(features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    half = len(features) // 2
    order = torch.randperm(len(features), generator=generator).to(features.device)
    return features[order[:half]], features[order[half : 2 * half]]


def _check_three(real: Tensor, first: Tensor, second: Tensor, at_least: int) -> tuple[Tensor, Tensor, Tensor]:
    checked, first = check_feature_pair(real, first, at_least, names=("real", "first"))
    return checked, first, check_feature_pair(real, second, at_least, names=("real", "second"))[1]


def _check_values(values: Tensor, name: str) -> Tensor:
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"{name}: shape {tuple(values.shape)}; give (N,), one value per image, N at least 2")
    check_finite(values, name)
    return values.double().cpu()
