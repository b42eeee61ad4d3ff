import math

import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from hfgen.errors import UserError
from hfgen.metrics import two_sample_test
from hfgen.metrics.two_sample import _fit


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_fit_is_scikit_learns() -> None:
    inputs, targets = torch.cat([normal(60, 4), normal(60, 4, seed=1) + 0.7]), torch.arange(120) >= 60
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(inputs.numpy(), targets.numpy())
    weights = _fit(inputs, 60)
    torch.testing.assert_close(weights[:-1], torch.from_numpy(oracle.coef_[0]), rtol=1e-3, atol=1e-4)
    assert float(weights[-1]) == pytest.approx(float(oracle.intercept_[0]), abs=1e-4)


def test_equal_distributions_cannot_be_told_apart() -> None:
    held = 0
    for seed in range(200):
        estimate = two_sample_test(normal(120, 4, seed=2 * seed), normal(100, 4, seed=2 * seed + 1), seed=seed)
        held += estimate.low <= 0.5 <= estimate.high
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert 0.9 <= held / 200 <= 0.99
    assert estimate.n == 100


def test_the_best_accuracy_of_shifted_gaussians_is_approached() -> None:
    shift = torch.zeros(8).double()
    shift[0] = 1.0
    estimate = two_sample_test(normal(4000, 8), normal(4000, 8, seed=1) + shift, seed=0)
    assert estimate.low < norm.cdf(0.5) < estimate.high


def test_it_sees_variances_shifts_and_separation() -> None:
    x, y = normal(600, 8), normal(600, 8, seed=1)
    assert two_sample_test(x, 0.5 * y, seed=0).low > 0.8
    assert two_sample_test(100 + x, 100 + 0.5 * y, seed=0).low > 0.8
    assert two_sample_test(x, y + 100, seed=0).value == 1
    assert two_sample_test(x, y * 0, seed=0).value > 0.9


def test_it_depends_on_the_seed_alone_and_not_on_scale_or_grad_mode() -> None:
    x, y = normal(200, 3), normal(150, 3, seed=1) + 0.3
    first = two_sample_test(x, y, seed=1)
    torch.rand(3)
    with torch.inference_mode():
        assert two_sample_test(x.clone(), y.clone(), seed=1) == first
    assert two_sample_test(8 * x, 8 * y, seed=1) == first


def test_constant_features_are_chance() -> None:
    assert two_sample_test(torch.ones(40, 3), torch.ones(40, 3), seed=0).value == 0.5


def test_sets_without_a_test_are_refused() -> None:
    x = normal(20, 3)
    for real, fake, field in (
        (x, x[:3], "fake: 3 images"),
        (x[:0], x, "real: 0 images"),
        (x, x * math.nan, "fake: NaN"),
        (x, normal(20, 2), "fake: 2 features"),
    ):
        with pytest.raises(UserError, match=field):
            two_sample_test(real, fake, seed=0)
