"""95 % intervals: each image is one draw, and all come from the one model and the one data set at hand.

Means and ratios of per-image values use the percentile bootstrap. The Frechet distance and the neighbour
metrics use the half-sample jackknife (delete-d with d = n/2, Shao & Wu 1989): the spread of a statistic over
halves of the data is its standard error on the whole, and a half never repeats an image, which a bootstrap
resample does and nearest neighbours don't forgive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_finite
from hfgen.metrics.distances import frechet_distance, kernel_excess, moments
from hfgen.metrics.neighbours import PRDC, prdc

_RESAMPLES = 1000
_RESAMPLES_AT_ONCE = 50
_SPLITS = 25
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval and the number of images behind it (of the smaller set)."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `Estimate(**d)` reads it back."""
        return asdict(self)


def bootstrap_mean(values: Tensor, *, seed: int) -> Estimate:
    """The mean of one value per image (N,), by 1000 resamples of the images.

    Raises:
        UserError: not (N,), fewer than two values, NaN or infinity.
    """
    values = _check_values(values, "values")
    means = torch.cat([values[picks].mean(1) for picks in _resamples(len(values), _generator(seed))])
    return _percentiles(float(values.mean()), means, len(values))


def bootstrap_ratio(numerator: Tensor, denominator: Tensor, *, seed: int, paired: bool) -> Estimate:
    """The ratio of two means of per-image values, (N,) over (M,), by 1000 resamples of the images.

    `paired`: both are of the same N images, which are resampled together.

    Raises:
        UserError: not (N,), fewer than two values, NaN or infinity, a mean denominator of 0, pairs of
            different lengths.
    """
    above, below = _check_values(numerator, "numerator"), _check_values(denominator, "denominator")
    if paired and len(above) != len(below):
        raise UserError(f"denominator: {len(below)} values for {len(above)} in numerator; pairs need as many")
    generator = _generator(seed)
    ratios = []
    for picks in _resamples(len(above), generator):
        others = picks if paired else next(_resamples(len(below), generator))
        ratios.append(above[picks].mean(1) / below[others].mean(1))
    means = torch.cat(ratios)
    if below.mean() == 0 or not means.isfinite().all():
        raise UserError("denominator: its mean is 0 or nearly so; use images that differ, and more of them")
    return _percentiles(float(above.mean() / below.mean()), means, min(len(above), len(below)))


def kernel_distance_interval(x: Tensor, y: Tensor) -> Estimate:
    """`kernel_distance` with the normal interval of its linear part (Hoeffding): no randomness.

    Conservative for equal distributions, where the linear part is 0 and its estimate isn't.

    Raises:
        UserError: as `kernel_distance`.
    """
    x, y = check_feature_pair(x, y, at_least=2, names=("x", "y"))
    parts = kernel_excess(x, y), kernel_excess(y, x)
    value = sum(float(part.mean()) for part in parts)
    error = sum(4 * float(part.var()) / len(part) for part in parts) ** 0.5
    return _normal(value, error, min(len(x), len(y)))


def frechet_distance_interval(real: Tensor, fake: Tensor, *, seed: int) -> Estimate:
    """The Frechet distance of two feature sets (N, D), (M, D), freed of its bias; hence sometimes negative.

    The bias goes as 1/n (Chong & Forsyth 2020), so that 2 FD(n) - mean FD(n/2) has none left. Sound where n/2
    is well above D; the interval is conservative for equal distributions.

    Raises:
        UserError: not two sets of one width, fewer than four rows, NaN or infinity.
    """
    real, fake = check_feature_pair(real, fake, at_least=4)
    whole = frechet_distance(*moments(real), *moments(fake))
    halves = torch.tensor(
        [frechet_distance(*moments(a), *moments(b)) for a, b in _half_samples(real, fake, seed)],
        dtype=torch.float64,
    )
    return _normal(2 * whole - float(halves.mean()), float(halves.std()), min(len(real), len(fake)))


def prdc_intervals(real: Tensor, fake: Tensor, k: int = 5, *, seed: int) -> dict[str, Estimate]:
    """`prdc` by name. The interval is for the mean value at these set sizes, on which all four depend.

    Raises:
        UserError: as `prdc`, or fewer than 2 (k + 1) rows.
    """
    real, fake = check_feature_pair(real, fake, at_least=2 * (k + 1))
    whole = prdc(real, fake, k)
    halves = torch.tensor([prdc(a, b, k) for a, b in _half_samples(real, fake, seed)], dtype=torch.float64)
    size = min(len(real), len(fake))
    estimates = {
        name: _normal(value, float(error), size)
        for name, value, error in zip(PRDC._fields, whole, halves.std(0), strict=True)
    }
    shares = {name: _as_share(estimates[name]) for name in ("precision", "recall", "coverage")}
    return {**estimates, **shares}


def _half_samples(real: Tensor, fake: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Both halves of each random split: their mean has the noise of the whole, no more."""
    generator = _generator(seed)
    for _ in range(_SPLITS):
        splits = []
        for features in (real, fake):
            half = len(features) // 2
            order = torch.randperm(len(features), generator=generator).to(features.device)
            splits.append((features[order[:half]], features[order[half : 2 * half]]))
        yield from zip(*splits, strict=True)


def _resamples(size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of all resamples, a block of them at a time."""
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        yield torch.randint(size, (_RESAMPLES_AT_ONCE, size), generator=generator)


def _percentiles(value: float, resampled: Tensor, n: int) -> Estimate:
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, low, high, n)


def _normal(value: float, error: float, n: int) -> Estimate:
    return Estimate(value, value - _NORMAL_95 * error, value + _NORMAL_95 * error, n)


def _as_share(estimate: Estimate) -> Estimate:
    """Within [0, 1], and no narrower than Wilson's (1927): at a share of 0 or 1 the halves show no spread."""
    share, n, z2 = estimate.value, estimate.n, _NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = (z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) ** 0.5 / (1 + z2 / n)
    low, high = min(estimate.low, centre - reach), max(estimate.high, centre + reach)
    return Estimate(share, max(low, 0.0), min(high, 1.0), n)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _check_values(values: Tensor, name: str) -> Tensor:
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"{name}: shape {tuple(values.shape)}; give (N,), one value per image, N at least 2")
    check_finite(values, name)
    return values.double().cpu()
