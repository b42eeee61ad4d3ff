"""Differences of two models against one real set: values, what is shared cancels, and the intervals' coverage."""

import pytest
import torch
from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.metrics import Estimate


def normal(seed: int, n: int = 60, d: int = 4, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_each_difference_is_that_of_the_two_numbers():
    real, first, second = normal(0), normal(1, 50, shift=0.5), normal(2, 55, shift=-0.3)
    gaps = {
        "kid": (metrics.kernel_distance_difference(real, first, second), metrics.kernel_distance),
        "coverage": (
            metrics.coverage_difference(real, first, second, seed=0),
            lambda x, y: metrics.prdc(x, y).coverage,
        ),
        "ratio": (
            metrics.ratio_difference(first[:, 0], second[:, 0], real[:, 0] + 9),
            lambda x, y: float(y[:, 0].mean() / (x[:, 0] + 9).mean()),
        ),
    }
    for name, (gap, formula) in gaps.items():
        assert gap.value == pytest.approx(formula(real, first) - formula(real, second), abs=1e-12), name
        assert gap.low < gap.value < gap.high and gap.n == 50, name


def test_exchanging_the_models_turns_the_sign():
    real, first, second = normal(0), normal(1, shift=0.5), normal(2)
    for difference in (metrics.kernel_distance_difference, metrics.ratio_difference):
        sets = (real, first, second) if difference is metrics.kernel_distance_difference else (first, second, real + 9)
        if difference is metrics.ratio_difference:
            sets = tuple(values[:, 0] for values in sets)
            exchanged = (sets[1], sets[0], sets[2])
        else:
            exchanged = (sets[0], sets[2], sets[1])
        one, other = difference(*sets), difference(*exchanged)
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)


def test_what_a_real_image_does_to_both_models_cancels():
    """Two models far from heavy-tailed real images: their distances are noisy, which is nearer isn't."""
    real = normal(0, 400).pow(3)
    near, far = normal(1, 2000, shift=4.0), normal(2, 2000, shift=4.05)
    gap = metrics.kernel_distance_difference(real, near, far)
    alone = [metrics.kernel_distance_interval(real, fake) for fake in (near, far)]
    added = sum((estimate.high - estimate.low) ** 2 for estimate in alone) ** 0.5
    assert gap.high - gap.low < 0.7 * added


def test_a_real_image_that_pulls_the_models_apart_counts_twice():
    """One model to the left of the real images, one to the right: adding variances would promise too much."""
    real = normal(0, 100, 1)
    left, right = normal(1, 3000, 1, shift=-1.0), normal(2, 3000, 1, shift=1.0)
    gap = metrics.kernel_distance_difference(real, left, right)
    alone = [metrics.kernel_distance_interval(real, fake) for fake in (left, right)]
    added = sum((estimate.high - estimate.low) ** 2 for estimate in alone) ** 0.5
    assert gap.high - gap.low > 1.2 * added


def _share(estimates: list[Estimate], truth: float) -> float:
    return sum(estimate.low <= truth <= estimate.high for estimate in estimates) / len(estimates)


@pytest.mark.parametrize("shift", [0.6, -0.6])
def test_the_kernel_distances_intervals_cover_the_difference(shift: float):
    draws = [
        metrics.kernel_distance_difference(
            normal(3 * seed, 80), normal(3 * seed + 1, 80, shift=0.6), normal(3 * seed + 2, 80, shift=shift) * 1.1
        )
        for seed in range(200)
    ]
    truth = float(
        metrics.kernel_distance_difference(
            normal(-1, 6000), normal(-2, 6000, shift=0.6), normal(-3, 6000, shift=shift) * 1.1
        ).value
    )
    assert 0.9 <= _share(draws, truth) <= 0.99


def test_the_ratios_intervals_cover_the_difference():
    def powers(seed: int, scale: float) -> Tensor:
        return scale * normal(seed, 100, 1)[:, 0].square()

    draws = [
        metrics.ratio_difference(powers(3 * seed, 0.9), powers(3 * seed + 1, 0.4), powers(3 * seed + 2, 1.0))
        for seed in range(200)
    ]
    assert 0.9 <= _share(draws, 0.5) <= 0.99


def test_the_coverages_intervals_cover_the_difference():
    """The truth is the mean difference at these set sizes, on which coverage depends."""
    draws = [
        metrics.coverage_difference(
            normal(3 * seed, 80), normal(3 * seed + 1, 80, shift=0.5), 0.5 * normal(3 * seed + 2, 80), seed=seed
        )
        for seed in range(200)
    ]
    truth = sum(draw.value for draw in draws) / len(draws)
    assert 0.9 <= _share(draws, truth) <= 0.995


def test_sets_of_no_coverage_at_all_still_have_an_interval():
    real, far = normal(0), normal(1, shift=100.0)
    gap = metrics.coverage_difference(real, far, far + 1, seed=0)
    assert gap.value == 0 and gap.low < -0.03 and gap.high > 0.03


def test_a_pairs_own_kernel_is_left_out():
    """Copies have the originals' distribution: 0 exactly. Paired noise of no effect on it: 0 on average."""
    x = normal(0)
    exact = metrics.paired_kernel_distance(x, x)
    assert exact.value == pytest.approx(0, abs=1e-12)
    slopes = [
        metrics.paired_kernel_distance(normal(seed), 0.8 * normal(seed) + 0.6 * normal(seed + 1000)).value
        for seed in range(300)
    ]
    values = torch.tensor(slopes)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 300**0.5


def test_the_paired_distance_of_strangers_is_the_kernel_distance_but_for_the_diagonal():
    x, y = normal(0), normal(1, shift=1.0)
    paired, plain = metrics.paired_kernel_distance(x, y), metrics.kernel_distance_interval(x, y)
    assert paired.value == pytest.approx(plain.value, rel=0.05)
    assert (paired.high - paired.low) == pytest.approx(plain.high - plain.low, rel=0.3)


def test_the_paired_distances_intervals_cover_it():
    def blurred(x: Tensor) -> Tensor:
        return 0.7 * x

    draws = [metrics.paired_kernel_distance(normal(seed, 100), blurred(normal(seed, 100))) for seed in range(200)]
    truth = metrics.paired_kernel_distance(normal(-1, 4000), blurred(normal(-1, 4000))).value
    assert 0.9 <= _share(draws, truth) <= 0.99


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.kernel_distance_difference(normal(0), normal(1), normal(2, d=5)), "second: 5 features"),
        (lambda: metrics.kernel_distance_difference(normal(0), normal(1) / 0, normal(2)), "first: NaN or infinity"),
        (lambda: metrics.coverage_difference(normal(0), normal(1), normal(2), 0, seed=0), "k: 0 "),
        (lambda: metrics.coverage_difference(normal(0), normal(1), normal(2, 11), seed=0), "second: 11 images"),
        (lambda: metrics.ratio_difference(torch.ones(3), torch.ones(3), torch.zeros(3)), "real: its mean is 0"),
        (lambda: metrics.ratio_difference(torch.ones(1), torch.ones(3), torch.ones(3)), "first: shape"),
        (lambda: metrics.paired_kernel_distance(normal(0), normal(1, 50)), "y: 50 images for 60"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words: str):
    with pytest.raises(UserError, match=words):
        call()
