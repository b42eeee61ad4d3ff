"""95 % intervals: each image is one draw, and all come from the one model and the one data set at hand.

Means and ratios of per-image values use the percentile bootstrap. The Frechet distance and the neighbour
metrics use the half-sample jackknife (delete-d with d = n/2, Shao & Wu 1989): how halves of the data differ tells
the standard error on the whole, and a half never repeats an image, which a bootstrap resample does, and which
biases nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hfgen.devices import cpu_threads
from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_features, check_finite
from hfgen.metrics.distances import frechet_distance, kernel_chance, kernel_excess, moments
from hfgen.metrics.neighbours import PRDC, prdc_of_subsets

_RESAMPLES = 1000
_RESAMPLES_AT_ONCE = 50
# Images whose counts, a byte for each resample, are kept.
_MOST_KEPT = 2**17
_SPLITS = 25
_NORMAL_95 = 1.96
_TINY = 1e-300
# Student's t for a variance of 25 splits, in units of the normal's.
_STUDENT = 2.064 / _NORMAL_95


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
    (means,) = _resampled_means([values], seed)
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
    if paired:
        (both,) = _resampled_means([torch.stack([above, below], 1)], seed)
        ratios = both[:, 0] / both[:, 1]
    else:
        first, second = _resampled_means([above, below], seed)
        ratios = first / second
    if below.mean() == 0 or not ratios.isfinite().all():
        raise UserError("denominator: its mean is 0 or nearly so; use images that differ, and more of them")
    return _percentiles(float(above.mean() / below.mean()), ratios, min(len(above), len(below)))


def bootstrap_of_means(values: Tensor, statistic: Callable[[Tensor], Tensor], *, seed: int) -> list[Estimate]:
    """Functions of the means of several values per image (N, K), by 1000 resamples of the images.

    `statistic` maps means (R, K) to (R, S), row by row; there is one estimate for each of the S.

    Raises:
        UserError: not (N, K), fewer than two rows, NaN or infinity, or a non-finite statistic.
    """
    values = check_features(values, "values", at_least=2).cpu()
    (means,) = _resampled_means([values], seed)
    found, resampled = statistic(values.mean(0, keepdim=True))[0], statistic(means)
    check_finite(torch.cat([found[None], resampled]), "values")
    return [_percentiles(value, column, len(values)) for value, column in zip(found.tolist(), resampled.T, strict=True)]


def kernel_distance_interval(x: Tensor, y: Tensor) -> Estimate:
    """`kernel_distance` with the interval of `squared_distance_estimate`: no randomness.

    Raises:
        UserError: as `kernel_distance`.
    """
    x, y = check_feature_pair(x, y, at_least=2, names=("x", "y"))
    parts = kernel_excess(x, y), kernel_excess(y, x)
    value = sum(float(part.mean()) for part in parts)
    variance = sum(4 * float(part.var()) / len(part) for part in parts)
    return squared_distance_estimate(value, variance, kernel_chance(x, y), min(len(x), len(y)))


def frechet_distance_interval(real: Tensor, fake: Tensor, *, seed: int) -> Estimate:
    """The Frechet distance of two feature sets (N, D), (M, D), freed of its bias; hence sometimes negative.

    The bias goes as 1/n (Chong & Forsyth 2020), so that 2 FD(n) - mean FD(n/2) has none left where n/2 is above D.
    Below, covariances are singular and the number is meaningless: 36 for equal distributions at D = 512 and n = 600.

    Raises:
        UserError: not two sets of one width, fewer than 2 (D + 1) or four rows, NaN or infinity.
    """
    real, fake = check_feature_pair(real, fake, at_least=4)
    size, needed = min(len(real), len(fake)), 2 * (real.shape[1] + 1)
    if size < needed:
        raise UserError(f"fd: {size} images are too few for {real.shape[1]} features; give at least {needed}")
    return debiased_estimate(lambda x, y: frechet_distance(*moments(x), *moments(y)), real, fake, seed=seed)


def debiased_estimate(
    statistic: Callable[[Tensor, Tensor], float], real: Tensor, fake: Tensor, *, seed: int
) -> Estimate:
    """A statistic of two sets, one row an image, freed of a bias that goes as 1/n: 2 T(n) - mean T(n/2)."""
    generator = _generator(seed)
    memberships = (half_memberships(len(values), generator) for values in (real, fake))
    halves = torch.tensor(
        [statistic(real[mine], fake[others]) for mine, others in zip(*(m.T for m in memberships), strict=True)],
        dtype=torch.float64,
    )
    value = 2 * statistic(real, fake) - float(halves.mean())
    differences, means = _of_splits(halves)
    students = _STUDENT**2
    return squared_distance_estimate(value, students * differences, students * means, min(len(real), len(fake)))


def prdc_intervals(real: Tensor, fake: Tensor, k: int = 5, *, seed: int) -> dict[str, Estimate]:
    """`prdc` by name. The interval is for the mean value at these set sizes, on which all four depend.

    Raises:
        UserError: as `prdc`, or fewer than 2 (k + 1) rows.
    """
    real, fake = check_feature_pair(real, fake, at_least=2 * (k + 1))
    generator = _generator(seed)
    members = [
        torch.cat([torch.ones(len(x), 1, dtype=torch.bool), half_memberships(len(x), generator)], dim=1)
        for x in (real, fake)
    ]
    whole, *halves = prdc_of_subsets(real, fake, members[0], members[1], k)
    errors, size = local_error(torch.stack(halves)), min(len(real), len(fake))
    estimates = {
        name: normal_estimate(value, error, size)
        for name, value, error in zip(PRDC._fields, whole.tolist(), errors.tolist(), strict=True)
    }
    shares = {name: _as_share(estimates[name]) for name in ("precision", "recall", "coverage")}
    return {**estimates, **shares}


def clustered(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate of several models, trained alike from S different seeds, for the recipe that made them.

    Its value is their mean and its standard error sqrt(s^2 / S + w): s^2 is the variance of the S values and w the
    mean of their squared standard errors. All models see the same held-out images, whose share of the error doesn't
    fall with S; where they don't, the interval is too wide, by at most w. Its half-width is that error times Student's
    t for the degrees of freedom of the sum (Satterthwaite 1946), few for few seeds.

    Raises:
        UserError: fewer than two seeds, NaN or infinity.
    """
    if len(estimates) < 2:
        raise UserError(f"estimates: {len(estimates)} is too few to see how seeds differ; give 2 seeds or more")
    values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
    widths = torch.tensor([estimate.high - estimate.low for estimate in estimates], dtype=torch.float64)
    check_finite(torch.cat([values, widths]), "estimates")
    between = float(values.var()) / len(estimates)
    within = float((widths / (2 * _NORMAL_95)).square().mean())
    value, n = float(values.mean()), min(estimate.n for estimate in estimates)
    if between == 0:
        return normal_estimate(value, within**0.5, n)

    from scipy.special import stdtrit

    freedom = (len(estimates) - 1) * ((between + within) / between) ** 2
    reach = float(stdtrit(freedom, 0.975)) * (between + within) ** 0.5
    return Estimate(value, value - reach, value + reach, n)


def half_memberships(size: int, generator: torch.Generator) -> Tensor:
    """Which of `size` images each half of 25 random splits holds: bool (size, 50).

    Both halves of each split: their mean has the noise of the whole, no more. An odd image is in neither.
    """
    half = size // 2
    members = torch.zeros(size, 2 * _SPLITS, dtype=torch.bool)
    for column in range(0, 2 * _SPLITS, 2):
        order = torch.randperm(size, generator=generator)
        members[order[:half], column] = True
        members[order[half : 2 * half], column + 1] = True
    return members


def local_error(halves: Tensor) -> Tensor:
    """The standard errors (S,) of statistics of near neighbours from their values (50, S) on the halves of 25 splits.

    Half the difference of two halves that share no image has half of a half's variance: that of the whole, where the
    variance goes as 1/n, however high the order of what neighbours do together. The spread of all halves would have
    what is of higher order twice.
    """
    first, second = halves[0::2].double(), halves[1::2].double()
    return _STUDENT * ((first - second) / 2).square().mean(0).sqrt()


def smooth_error(halves: Tensor) -> float:
    """The standard error of a smooth statistic of the whole from its values (50,) on the halves of 25 splits."""
    differences, means = _of_splits(halves)
    return _STUDENT * max(differences - means, means) ** 0.5


def _of_splits(halves: Tensor) -> tuple[float, float]:
    """Variances of half the difference and of the mean of each split's two halves.

    The first has the variance of the statistic's first-order part on the whole and twice that of its second-order part;
    the other has that of its second-order part alone, which is all there is where distributions are equal.
    """
    first, second = halves.double().view(-1, 2).unbind(1)
    return float(((first - second) / 2).square().mean()), float(((first + second) / 2).var())


def squared_distance_estimate(value: float, variance: float, chance: float, n: int) -> Estimate:
    """An unbiased estimate of a squared distance, whose variance grows with it.

    The interval holds every distance d^2 that the value is at most 1.96 standard errors away from, the error being that
    at d^2: a variance of `chance` at 0, and more in proportion to d^2. That at the value itself would be too wide for
    equal distributions and, above them, too narrow on one side.

    Args:
        value: The estimate, sometimes negative.
        variance: Its variance, estimated from first-order parts, which has that of chance twice in it. Where that
            estimate varies little itself, the caller may take one off; elsewhere it would too often be too little.
        chance: Its variance for equal distributions.
        n: Images.
    """
    slope = max(variance - chance, 0.0) / max(value, max(variance, chance) ** 0.5, _TINY)
    skew = _NORMAL_95**2 * slope / 2
    centre, reach = value + skew, (_NORMAL_95**2 * (chance + slope * max(value, 0.0)) + skew**2) ** 0.5
    return Estimate(value, min(centre - reach, value), max(centre + reach, value), n)


def _resampled_means(sets: list[Tensor], seed: int) -> list[Tensor]:
    """Of sets that are resampled one by one, (N,) or (N, K) float64, the means (1000,) or (1000, K) of each."""
    sizes = tuple(map(len, sets))
    blocks = _kept_counts(sizes, seed) if sum(sizes) <= _MOST_KEPT else _counts(sizes, seed)
    sets = [values.contiguous() for values in sets]
    with cpu_threads(1):
        means = [
            [part.double() @ values / len(values) for part, values in zip(block, sets, strict=True)] for block in blocks
        ]
    return [torch.cat(column) for column in zip(*means, strict=True)]


@lru_cache(maxsize=2)
def _kept_counts(sizes: tuple[int, ...], seed: int) -> list[list[Tensor]]:
    """An evaluation draws the same resamples for each metric, which takes most of an interval's time."""
    return list(_counts(sizes, seed))


def _counts(sizes: tuple[int, ...], seed: int) -> Iterator[list[Tensor]]:
    """How often each image is in a resample, of sets of these sizes: uint8 (50, N), a block of resamples at a time."""
    generator, one = _generator(seed), torch.ones((), dtype=torch.uint8)
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        block = []
        for size in sizes:
            picks = torch.randint(size, (_RESAMPLES_AT_ONCE, size), generator=generator)
            counts = torch.zeros(picks.shape, dtype=torch.uint8)
            block.append(counts.scatter_add_(1, picks, one.expand_as(picks)))
        yield block


def _percentiles(value: float, resampled: Tensor, n: int) -> Estimate:
    low, high = resampled.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    # Of equal values, resamples differ from the value by rounding.
    return Estimate(value, min(low, value), max(high, value), n)


def normal_estimate(value: float, error: float, n: int) -> Estimate:
    """A value with the 95 % interval of a normal distribution of this standard error."""
    return Estimate(value, value - _NORMAL_95 * error, value + _NORMAL_95 * error, n)


def wilson(share: float, n: int) -> Estimate:
    """A share of n independent decisions with Wilson's interval (1927), within [0, 1] and never without width."""
    z2 = _NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = (z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) ** 0.5 / (1 + z2 / n)
    # At 0 and 1 rounding may leave the share outside.
    return Estimate(share, max(min(centre - reach, share), 0.0), min(max(centre + reach, share), 1.0), n)


def _as_share(estimate: Estimate) -> Estimate:
    """Within [0, 1], and no narrower than Wilson's: at a share of 0 or 1 the halves show no spread."""
    floor = wilson(estimate.value, estimate.n)
    low, high = min(estimate.low, floor.low), max(estimate.high, floor.high)
    return Estimate(estimate.value, max(low, 0.0), min(high, 1.0), estimate.n)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _check_values(values: Tensor, name: str) -> Tensor:
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"{name}: shape {tuple(values.shape)}; give (N,), one value per image, N at least 2")
    check_finite(values, name)
    return values.double().cpu()
