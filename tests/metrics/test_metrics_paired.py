import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import frechet_distance, moments, paired_frechet_distance, worst_tenth


def normal(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pairs_that_differ_by_a_shift_have_its_square_as_distance():
    x = normal(400, 4, 0)
    debiased, plug_in = paired_frechet_distance(x, x + 0.5, seed=0)
    assert plug_in.value == pytest.approx(4 * 0.25) and debiased.value == pytest.approx(1.0, abs=0.01)
    assert plug_in.value == frechet_distance(*moments(x), *moments(x + 0.5))


def test_independent_noise_leaves_no_bias_and_the_plug_in_value_has_one():
    """r = .8 x + .6 e is distributed as x: the distance is 0."""
    found = []
    for seed in range(20):
        x = normal(120, 8, seed)
        found.append(paired_frechet_distance(x, 0.8 * x + 0.6 * normal(120, 8, 100 + seed), seed=seed))
    debiased = torch.tensor([pair[0].value for pair in found])
    assert abs(float(debiased.mean())) < 3 * float(debiased.std()) / 20**0.5 + 0.01
    assert min(pair[1].value for pair in found) > 0.05
    assert sum(pair[0].low <= 0 <= pair[0].high for pair in found) >= 17


def test_too_few_pairs_are_refused_with_the_number_needed():
    with pytest.raises(UserError, match="fd: 20 images are too few for 16 features, which need 34; give more"):
        paired_frechet_distance(normal(20, 16, 0), normal(20, 16, 1), seed=0)
    with pytest.raises(UserError, match="30 images for 40 in real"):
        paired_frechet_distance(normal(40, 4, 0), normal(30, 4, 1), seed=0)


def test_the_worst_tenth_is_a_tails_mean():
    values = torch.arange(100.0)
    assert worst_tenth(values, highest=True).value == 94.5
    assert worst_tenth(values, highest=False).value == 4.5
    with pytest.raises(UserError, match="values: 9 are too few for a worst tenth; give at least 10"):
        worst_tenth(values[:9], highest=True)
    with pytest.raises(UserError, match="one value per image"):
        worst_tenth(values[None], highest=True)


def test_the_interval_of_the_worst_tenth_covers():
    """Of N(0, 1) its expectation is phi(z) / .1 = 1.755."""
    estimates = [worst_tenth(normal(400, 1, seed)[:, 0], highest=True) for seed in range(200)]
    assert sum(e.low <= 1.755 <= e.high for e in estimates) > 180
