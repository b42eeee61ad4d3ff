import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfgen.errors import UserError
from hfgen.metrics import frechet_distance, kernel_distance, moments


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_two_known_gaussians_is_20() -> None:
    eye = torch.eye(4)
    assert frechet_distance(torch.zeros(4), eye, torch.full((4,), 2.0), 4 * eye) == pytest.approx(20)


def test_frechet_distance_of_shifted_unit_gaussians_is_the_width() -> None:
    eye = torch.eye(512)
    distance = frechet_distance(torch.zeros(512), eye, torch.ones(512), eye)
    assert distance == pytest.approx(512)


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
