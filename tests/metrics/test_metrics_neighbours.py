import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from hfgen.errors import UserError
from hfgen.metrics import PRDC, expected_coverage, prdc
from hfgen.metrics.neighbours import own_nearest_distances, prdc_of_subsets


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("n", "m", "width", "k"), [(1100, 600, 8, 5), (300, 700, 64, 3), (20, 20, 2, 1), (200, 90, 3, 40)]
)
def test_prdc_is_that_of_its_authors(n: int, m: int, width: int, k: int) -> None:
    real, fake = normal(n, width), normal(m, width, seed=1) * 0.8 + 0.1
    oracle = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    assert prdc(real, fake, k)._asdict() == pytest.approx({name: float(v) for name, v in oracle.items()}, rel=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 7]), st.sampled_from([0.0, 1e4]))
def test_prdc_of_subsets_is_that_of_each_alone(seed: int, k: int, offset: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    # Far more than the neighbours that are kept, some of them equal.
    real, fake = (normal(n, 2, seed=seed + n).mul(20).round() + offset for n in (300, 170))
    members = [torch.rand(len(x), 3, generator=draws) < 0.5 for x in (real, fake)]
    members[0][:, 0] = members[1][:, 0] = True
    found = prdc_of_subsets(real, fake, *members, k)
    for column, values in enumerate(found.tolist()):
        alone = prdc(real[members[0][:, column]], fake[members[1][:, column]], k)
        assert values == pytest.approx(list(alone), rel=1e-12)


def test_prdc_of_wide_gaussians_is_the_known_one() -> None:
    # The published 10,000 x 1000-d case is .48 / .47 / 1.06 / .97; 64-d needs fewer images.
    value = prdc(normal(2000, 64), normal(2000, 64, seed=1))
    assert 0.65 < value.precision < 0.8 and 0.65 < value.recall < 0.8
    assert value.density == pytest.approx(1, abs=0.15)
    assert value.coverage == pytest.approx(expected_coverage(2000, 2000, 5), abs=0.015)


def test_expected_coverage_is_the_mean_coverage() -> None:
    coverages = [prdc(normal(80, 4, seed=i), normal(50, 4, seed=999 + i), 3).coverage for i in range(200)]
    values = torch.tensor(coverages, dtype=torch.float64)
    assert abs(float(values.mean()) - expected_coverage(80, 50, 3)) < 3 * float(values.std()) / math.sqrt(200)
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(0.9688, abs=1e-4)


def test_a_dropped_mode_costs_recall_and_coverage_not_precision() -> None:
    real = normal(400, 4)
    real[200:] += 20
    value = prdc(real, normal(400, 4, seed=1))
    assert value.precision > 0.9
    assert value.recall < 0.55 and value.coverage < 0.55


def test_a_collapsed_generator_has_no_recall() -> None:
    real = normal(100, 4)
    assert prdc(real, real[:1].repeat(50, 1)).recall == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.permutations(range(12)))
def test_prdc_is_bounded_and_blind_to_order(seed: int, k: int, order: list[int]) -> None:
    real, fake = normal(12, 3, seed=seed), normal(9, 3, seed=seed + 1)
    value = prdc(real, fake, k)
    assert value == pytest.approx(prdc(real[order], fake, k))
    assert value.density >= 0
    assert all(0 <= share <= 1 for share in (value.precision, value.recall, value.coverage))


def test_identical_sets_score_1_and_distant_sets_0() -> None:
    x = normal(50, 4)
    # The k-th neighbour is at the radius, not inside it, and the point itself is.
    assert prdc(x, x, 3).density == 1
    same = prdc(x, x)
    assert same.precision == same.recall == same.coverage == 1
    assert prdc(x, x + 1000) == PRDC(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("real", "fake", "k", "field"),
    [
        (normal(5, 3), normal(9, 3), 5, "real: 5 images are too few; give at least 6"),
        (normal(9, 3), normal(5, 3), 5, "fake: 5 images"),
        (normal(9, 3), torch.zeros(0, 3), 1, "fake: 0 images"),
        (normal(9, 3), normal(9, 3), 0, "k: 0"),
        (normal(9, 3), normal(9, 2), 5, "fake: 2 features against 3"),
        (normal(9, 3) * math.nan, normal(9, 3), 5, "real: NaN"),
    ],
)
def test_sets_without_neighbours_are_refused(real: torch.Tensor, fake: torch.Tensor, k: int, field: str) -> None:
    with pytest.raises(UserError, match=field):
        prdc(real, fake, k)


def test_a_point_is_not_its_own_neighbour() -> None:
    points = normal(700, 3)
    points[5] = points[400]
    distances = torch.cdist(points, points)
    distances.fill_diagonal_(torch.inf)
    found = own_nearest_distances(points)
    assert found == pytest.approx(distances.min(1).values, abs=1e-6) and found[5] == found[400] == 0
    with pytest.raises(UserError, match="points: 1 images"):
        own_nearest_distances(points[:1])
