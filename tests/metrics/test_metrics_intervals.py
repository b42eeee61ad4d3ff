import json
import math
from collections.abc import Callable

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    clustered,
    expected_coverage,
    frechet_distance_interval,
    kernel_distance,
    kernel_distance_interval,
    prdc,
    prdc_intervals,
)
from hfgen.metrics.intervals import bootstrap_of_means, squared_distance_estimate, wilson


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coverage(truth: float, trials: int, estimate: Callable[[int], Estimate]) -> float:
    estimates = [estimate(seed) for seed in range(trials)]
    return sum(e.low <= truth <= e.high for e in estimates) / trials


# 200 trials of a true 95 % give .95 +- .03, two standard errors.


def test_the_interval_of_a_mean_holds_it_95_percent_of_the_time() -> None:
    share = coverage(1.0, 200, lambda i: bootstrap_mean(normal(200, seed=i).square(), seed=i))
    assert 0.9 <= share <= 0.99


def test_the_interval_of_an_unpaired_ratio_holds_it_95_percent_of_the_time() -> None:
    def trial(seed: int) -> Estimate:
        above, below = normal(150, seed=seed).exp(), normal(250, seed=1000 + seed).exp() * 2
        return bootstrap_ratio(above, below, seed=seed, paired=False)

    assert 0.9 <= coverage(0.5, 200, trial) <= 0.99


def test_the_interval_of_a_paired_ratio_holds_it_and_is_narrower() -> None:
    def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        below = normal(200, seed=seed).exp()
        return below * (0.8 + 0.1 * normal(200, seed=1000 + seed)), below

    share = coverage(0.8, 200, lambda i: bootstrap_ratio(*pair(i), seed=i, paired=True))
    assert 0.9 <= share <= 0.99
    paired, unpaired = (bootstrap_ratio(*pair(0), seed=0, paired=p) for p in (True, False))
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize(("n", "width"), [(66, 32), (130, 64)])
def test_a_frechet_distance_of_as_few_images_as_are_allowed_is_sound(n: int, width: int) -> None:
    found = [
        frechet_distance_interval(normal(n, width, seed=2 * i), normal(n, width, seed=2 * i + 1), seed=i)
        for i in range(20)
    ]
    assert sum(e.low <= 0 <= e.high for e in found) >= 16
    with pytest.raises(UserError, match=f"give at least {n}"):
        frechet_distance_interval(normal(n - 1, width), normal(n, width), seed=0)


def test_functions_of_means_have_the_bootstraps_intervals() -> None:
    values = normal(200, 2).exp()
    ratio, product = bootstrap_of_means(
        values, lambda means: torch.stack([means[:, 0] / means[:, 1], means[:, 0] * means[:, 1]], 1), seed=0
    )
    expected = bootstrap_ratio(values[:, 0], values[:, 1], seed=0, paired=True)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert product.value == pytest.approx(float(values.mean(0).prod())) and product.n == 200
    with pytest.raises(UserError, match="values: NaN or infinity"):
        bootstrap_of_means(values, lambda means: means / 0, seed=0)


def test_a_squared_distances_interval_is_that_of_the_inverted_test() -> None:
    found = squared_distance_estimate(5.0, 5.0, 1.0, 9)
    # Both ends are 1.96 standard errors away, by the error at the end: 1 at 0, and .8 more for each unit.
    for end in (found.low, found.high):
        assert (5 - end) ** 2 == pytest.approx(1.96**2 * (1 + 0.8 * end))
    alone = squared_distance_estimate(-0.5, 1.0, 1.0, 9)
    assert (alone.low, alone.high) == pytest.approx((-2.46, 1.46))
    still = squared_distance_estimate(0.0, 0.0, 0.0, 9)
    assert still.low == still.value == still.high == 0


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_kernel_distance_interval_holds_the_truth(shift: float) -> None:
    # With unit-variance independent features, E k has a closed form in s = |mean|^2 / D.
    def trial(seed: int) -> Estimate:
        return kernel_distance_interval(normal(150, 16, seed=seed), normal(150, 16, seed=9999 + seed) + shift)

    def mean_kernel(own: float, product: float) -> float:
        # E (1 + p)^3 from the mean, the variance and the third central moment of p = x.y / D.
        variance, third = (1 + own) / 16, 6 * product / 16**2
        return (1 + product) ** 3 + 3 * (1 + product) * variance + third

    s = shift**2
    truth = mean_kernel(0, 0) + mean_kernel(2 * s, s) - 2 * mean_kernel(s, 0)
    assert coverage(truth, 200, trial) >= 0.9


def test_the_kernel_distance_interval_is_around_the_kernel_distance() -> None:
    x, y = normal(60, 5), normal(80, 5, seed=1)
    estimate = kernel_distance_interval(x, y)
    assert estimate.value == pytest.approx(kernel_distance(x, y))
    assert estimate.low < estimate.value < estimate.high and estimate.n == 60


@pytest.mark.parametrize("trials", [60, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_the_frechet_interval_is_free_of_bias_and_holds_the_truth(scale: float, trials: int) -> None:
    truth = 16 * (1 - scale) ** 2
    estimates = [
        frechet_distance_interval(normal(300, 16, seed=i), normal(300, 16, seed=999 + i) * scale, seed=i)
        for i in range(trials)
    ]
    values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    assert abs(float(values.mean()) - truth) < max(3 * float(values.std()) / math.sqrt(trials), 0.03)
    assert sum(e.low <= truth <= e.high for e in estimates) >= 0.9 * trials


@pytest.mark.parametrize("trials", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_prdc_intervals_hold_the_mean_over_sets(trials: int) -> None:
    def sets(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return normal(120, 4, seed=seed), normal(120, 4, seed=9999 + seed) * 0.8

    truth = torch.tensor([prdc(*sets(1000 + i)) for i in range(200)], dtype=torch.float64).mean(0)
    held = torch.zeros(4)
    for seed in range(trials):
        estimates = prdc_intervals(*sets(seed), 5, seed=seed)
        held += torch.tensor([e.low <= t <= e.high for e, t in zip(estimates.values(), truth, strict=True)])
    assert list(estimates) == ["precision", "recall", "density", "coverage"]
    assert held.min() >= 0.9 * trials


def test_prdc_intervals_are_around_prdc_within_its_bounds() -> None:
    real, fake = normal(100, 3), normal(90, 3, seed=1)
    estimates = prdc_intervals(real, fake, 5, seed=0)
    assert {name: e.value for name, e in estimates.items()} == prdc(real, fake, 5)._asdict()
    assert all(0 <= e.low <= e.value <= e.high and e.n == 90 for e in estimates.values())
    assert all(estimates[name].high <= 1 for name in ("precision", "recall", "coverage"))
    assert estimates["coverage"].low < expected_coverage(100, 90, 5) < estimates["coverage"].high


def test_a_share_of_1_is_not_certain() -> None:
    x = normal(60, 3)
    estimate = prdc_intervals(x, x * 0.01, 5, seed=0)["precision"]
    assert estimate.value == estimate.high == 1 and estimate.low == pytest.approx(60 / (60 + 1.96**2))


def test_intervals_depend_on_the_seed_alone() -> None:
    x, y = normal(40, 3), normal(40, 3, seed=1)
    for interval in (
        frechet_distance_interval,
        lambda a, b, seed: prdc_intervals(a, b, seed=seed)["density"],
    ):
        first = interval(x, y, seed=1)
        torch.rand(3)
        assert interval(x, y, seed=1) == first != interval(x, y, seed=2)
    assert bootstrap_mean(x[:, 0], seed=1) == bootstrap_mean(x[:, 0], seed=1)


def test_the_interval_over_seeds_holds_the_recipes_value() -> None:
    # Seeds differ by .5, the images that all share are off by .3, and what a seed's own draws add is .2.
    def recipe(seed: int) -> Estimate:
        shared, *own = (normal(9, seed=seed) * torch.tensor([0.3] + [0.5] * 4 + [0.2] * 4)).tolist()
        values = [shared + own[i] + own[i + 4] for i in range(4)]
        reach = 1.96 * math.hypot(0.3, 0.2)
        return clustered([Estimate(value, value - reach, value + reach, 90 + i) for i, value in enumerate(values)])

    assert 0.9 <= coverage(0.0, 200, recipe) <= 0.99
    assert recipe(0).n == 90


def test_seeds_that_agree_leave_the_images_error() -> None:
    one = Estimate(1.0, 0.9, 1.1, 50)
    assert clustered([one, one, one]).low == pytest.approx(0.9)


def test_seeds_without_image_error_have_students_interval() -> None:
    from scipy.stats import t

    values = [1.0, 2.0, 4.0]
    estimate = clustered([Estimate(value, value, value, 10) for value in values])
    low, high = t.interval(0.95, 2, loc=sum(values) / 3, scale=torch.tensor(values).std().item() / 3**0.5)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_too_few_or_broken_seeds_are_refused() -> None:
    one = Estimate(1.0, 0.9, 1.1, 50)
    with pytest.raises(UserError, match="estimates: 1 is too few"):
        clustered([one])
    with pytest.raises(UserError, match="estimates: NaN or infinity"):
        clustered([one, Estimate(math.nan, 0, 1, 50)])


def test_an_estimate_survives_json() -> None:
    estimate = bootstrap_mean(normal(30), seed=0)
    assert Estimate(**json.loads(json.dumps(estimate.as_dict()))) == estimate


def test_constant_values_have_an_interval_without_width() -> None:
    assert bootstrap_mean(torch.full((9,), 2.0), seed=0) == Estimate(2.0, 2.0, 2.0, 9)


def test_what_has_no_interval_is_refused() -> None:
    ones = torch.ones(5)
    for values in (torch.ones(1), torch.ones(2, 2), torch.tensor([1.0, math.inf])):
        with pytest.raises(UserError, match="values:"):
            bootstrap_mean(values, seed=0)
    for below in (torch.zeros(5), torch.tensor([1.0, 0, 0, 0, 0])):
        with pytest.raises(UserError, match="denominator:"):
            bootstrap_ratio(ones, below, seed=0, paired=True)
    with pytest.raises(UserError, match="denominator: 4 values"):
        bootstrap_ratio(ones, torch.ones(4), seed=0, paired=True)
    with pytest.raises(UserError, match="real: 3 images"):
        frechet_distance_interval(normal(3, 2), normal(9, 2), seed=0)
    with pytest.raises(UserError, match="fd: 600 images are too few for 512 features; give at least 1026"):
        frechet_distance_interval(normal(600, 512), normal(900, 512), seed=0)
    with pytest.raises(UserError, match="fake: 11 images are too few; give at least 12"):
        prdc_intervals(normal(12, 2), normal(11, 2), 5, seed=0)


@pytest.mark.parametrize("n", [10, 30, 60, 1000])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilsons_interval_holds_the_share_itself(share: float, n: int):
    estimate = wilson(share, n)
    assert 0 <= estimate.low <= share <= estimate.high <= 1


@pytest.mark.parametrize("most_kept", [0, 2**17])
def test_resamples_are_the_same_where_they_are_kept_and_where_not(
    most_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfgen.metrics.intervals._MOST_KEPT", most_kept)
    above, below = normal(300).exp(), normal(200, seed=1).exp()
    generator, drawn = torch.Generator().manual_seed(5), []
    for _ in range(20):
        picks, others = (torch.randint(len(x), (50, len(x)), generator=generator) for x in (above, below))
        drawn.append(above[picks].mean(1) / below[others].mean(1))
    expected = torch.cat(drawn).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    for _ in range(2):
        found = bootstrap_ratio(above, below, seed=5, paired=False)
        assert [found.low, found.high] == pytest.approx(expected, rel=1e-12)
    # Those of another seed, and of other numbers of images, are others.
    assert bootstrap_ratio(above, below, seed=6, paired=False) != found
    assert bootstrap_ratio(above, below[:150], seed=5, paired=False).n == 150


def test_threads_change_no_bit_of_an_interval() -> None:
    values = normal(10_000, 2).exp()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(bootstrap_ratio(*values.unbind(1), seed=0, paired=True))
            found.append(bootstrap_of_means(values, lambda means: means[:, :1] / means[:, 1:], seed=0)[0])
    finally:
        torch.set_num_threads(before)
    assert found[0::2] == [found[0]] * 3 and found[1::2] == [found[1]] * 3
