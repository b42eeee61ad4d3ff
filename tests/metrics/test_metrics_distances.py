import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfgen.errors import UserError
from hfgen.metrics import MomentsAccumulator, frechet_distance, kernel_distance, moments, perceptual_distance


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_two_known_gaussians_is_20() -> None:
    eye = torch.eye(4)
    assert frechet_distance(torch.zeros(4), eye, torch.full((4,), 2.0), 4 * eye) == pytest.approx(20)


@pytest.mark.parametrize("width", [256, pytest.param(2048, marks=pytest.mark.slow)])
def test_frechet_distance_of_shifted_unit_gaussians_is_the_width(width: int) -> None:
    eye = torch.eye(width)
    assert frechet_distance(torch.zeros(width), eye, torch.ones(width), eye) == pytest.approx(width)


def test_frechet_distance_of_x_and_2x_plus_1_is_twice_the_width() -> None:
    x = normal(4000, 48)
    assert frechet_distance(*moments(x), *moments(2 * x + 1)) == pytest.approx(96, rel=0.02)


@pytest.mark.parametrize("count", [200, 10])
def test_frechet_distance_agrees_with_the_matrix_square_root(count: int) -> None:
    x, y = normal(count, 16), normal(300, 16, seed=1) @ normal(16, 16, seed=2) + 0.3
    (mean1, cov1), (mean2, cov2) = moments(x), moments(y)
    root = scipy.linalg.sqrtm(cov1.numpy() @ cov2.numpy())
    oracle = (mean1 - mean2).square().sum() + (cov1 + cov2).trace() - 2 * np.trace(root).real
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(float(oracle), rel=1e-5)


def test_moments_are_numpys() -> None:
    x = normal(30, 5)
    mean, cov = moments(x.float())
    assert mean.dtype == cov.dtype == torch.float64
    np.testing.assert_allclose(mean, x.numpy().mean(0), atol=1e-6)
    np.testing.assert_allclose(cov, np.cov(x.numpy(), rowvar=False), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(3, 40))
def test_frechet_distance_is_symmetric_nonnegative_and_0_for_itself(seed: int, width: int, count: int) -> None:
    x, y = moments(normal(count, width, seed=seed)), moments(normal(count, width, seed=seed + 1) * 2)
    forward, backward = frechet_distance(*x, *y), frechet_distance(*y, *x)
    assert forward >= 0 and forward == pytest.approx(backward, rel=1e-4, abs=1e-5)
    assert frechet_distance(*x, *x) == pytest.approx(0, abs=1e-5)


def naive_kernel_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    def mean(a: torch.Tensor, b: torch.Tensor, same: bool) -> float:
        values = [
            (float(p @ q) / len(p) + 1) ** 3 for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)
        ]
        return sum(values) / len(values)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_kernel_distance_is_its_definition() -> None:
    x, y = normal(7, 3), normal(9, 3, seed=1) + 0.5
    assert kernel_distance(x, y) == pytest.approx(naive_kernel_distance(x, y))


def test_kernel_distance_does_not_depend_on_the_blocks() -> None:
    x, y = normal(1100, 8), normal(700, 8, seed=1) + 0.2
    kernel = {name: (a @ b.T / 8 + 1) ** 3 for name, a, b in (("xx", x, x), ("yy", y, y), ("xy", x, y))}
    own = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (kernel["xx"], kernel["yy"])]
    assert kernel_distance(x, y) == pytest.approx(float(sum(own) - 2 * kernel["xy"].mean()))


def test_kernel_distance_is_unbiased_for_equal_distributions() -> None:
    values = torch.tensor(
        [kernel_distance(normal(100, 16, seed=i), normal(100, 16, seed=1000 + i)) for i in range(300)]
    )
    assert values.mean().abs() < 3 * values.std() / math.sqrt(300)
    assert (values < 0).any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(12)))
def test_distances_do_not_depend_on_the_order(seed: int, order: list[int]) -> None:
    x, y = normal(12, 4, seed=seed), normal(15, 4, seed=seed + 1)
    assert kernel_distance(x[order], y) == pytest.approx(kernel_distance(x, y), abs=1e-9)
    one, other = frechet_distance(*moments(x), *moments(y)), frechet_distance(*moments(x[order]), *moments(y))
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "field"),
    [
        (torch.zeros(0, 4), "x: 0 images"),
        (torch.zeros(1, 4), "x: 1 images"),
        (torch.zeros(5), "x: shape"),
        (torch.full((5, 4), math.nan), "x: NaN"),
        (torch.full((5, 4), math.inf), "x: NaN or infinity"),
        (torch.zeros(5, 3), "y: 4 features against 3"),
    ],
)
def test_feature_sets_without_a_distance_are_refused(x: torch.Tensor, field: str) -> None:
    with pytest.raises(UserError, match=field):
        kernel_distance(x, normal(5, 4))


def test_moments_without_a_distance_are_refused() -> None:
    mean, cov = moments(normal(5, 3))
    with pytest.raises(UserError, match="features: 1 images"):
        moments(normal(1, 3))
    with pytest.raises(UserError, match="cov2: shape"):
        frechet_distance(mean, cov, mean, cov[:2])
    with pytest.raises(UserError, match="mean2: NaN"):
        frechet_distance(mean, cov, mean * math.nan, cov)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 40), max_size=5), st.integers(0, 6))
def test_moments_do_not_depend_on_the_batches_nor_on_the_processes(seed: int, cuts: list[int], first: int) -> None:
    # Far from 0, where sums of squares would lose seven digits.
    x = normal(40, 3, seed=seed) + 1e4
    one, other = MomentsAccumulator(), MomentsAccumulator()
    edges = [0, *sorted(set(cuts) - {0, 40}), 40]
    for number, (a, b) in enumerate(pairwise(edges)):
        (one if number < first else other).update(x[a:b])
    for merged in (MomentsAccumulator().merge(one).merge(other), MomentsAccumulator().merge(other).merge(one)):
        mean, cov = merged.result()
        assert merged.count == 40
        torch.testing.assert_close(mean, x.mean(0), rtol=1e-14, atol=0)
        torch.testing.assert_close(cov, torch.from_numpy(np.cov(x.numpy(), rowvar=False)), rtol=1e-10, atol=1e-10)


def test_an_accumulator_refuses_what_has_no_moments() -> None:
    for features, field in ((normal(0, 3), "0 images"), (normal(2, 3) * math.nan, "NaN"), (normal(3), "shape")):
        with pytest.raises(UserError, match=f"features: {field}"):
            MomentsAccumulator().update(features)
    with pytest.raises(UserError, match="features: 1 images are too few"):
        MomentsAccumulator().update(normal(1, 3)).result()
    with pytest.raises(UserError, match="features: 2 columns after 3"):
        MomentsAccumulator().update(normal(1, 3)).merge(MomentsAccumulator().update(normal(1, 2)))


def test_distances_agree_with_torchmetrics() -> None:
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(300, 24), normal(250, 24, seed=1) * 1.2 + 0.2
    oracle = _compute_fid(*moments(x), *moments(y))
    assert frechet_distance(*moments(x), *moments(y)) == pytest.approx(float(oracle))
    # Its unbiased estimate takes sets of one size.
    assert kernel_distance(x[:250], y) == pytest.approx(float(poly_mmd(x[:250], y)))


def test_perceptual_distance_is_the_angle_of_paired_features() -> None:
    x = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 1]])
    y = torch.tensor([[3.0, 0], [0, 2], [-1, 0], [1, 0]])
    distances = perceptual_distance(x, y)
    assert distances.dtype == torch.float64 and distances.tolist() == pytest.approx([0, 1, 2, 1 - 0.5**0.5])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_perceptual_distance_is_bounded_symmetric_and_blind_to_scale(seed: int, split: int) -> None:
    x, y = normal(9, 4, seed=seed), normal(9, 4, seed=seed + 1)
    distances = perceptual_distance(x, y)
    assert ((distances >= 0) & (distances <= 2)).all() and perceptual_distance(x, x).max() < 1e-15
    torch.testing.assert_close(perceptual_distance(3 * y, x), distances)
    parts = [perceptual_distance(x[part], y[part]) for part in (slice(split), slice(split, None))]
    torch.testing.assert_close(torch.cat(parts), distances)


def test_features_without_a_direction_are_refused() -> None:
    x = normal(3, 4)
    for y, field in (
        (x * 0, "all 0"),
        (x[:2], "y: 2 images for 3"),
        (x[:, :2], "y: 2 features"),
        (x * math.inf, "y: NaN"),
    ):
        with pytest.raises(UserError, match=field):
            perceptual_distance(x, y)
