import math

import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from hfgen.data import draw
from hfgen.errors import UserError
from hfgen.metrics import pixel_statistics, power_spectrum, two_sample_test, two_sample_test_of_pixels
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


def images(name: str, count: int, first: int = 0, side: int = 32) -> torch.Tensor:
    return draw(name, "test", first, count, side).images


def noisy(clean: torch.Tensor, deviation: float) -> torch.Tensor:
    draws = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + 127.5 * deviation * draws).round().clamp(0, 255).to(torch.uint8)


def test_positive_control_real_images_with_noise_are_always_told_apart() -> None:
    """Of sd .21 of [-1, 1], the pixel noise of a factorised likelihood; and real from real they are not."""
    real, others = images("glyphs", 300), images("glyphs", 300, 300)
    assert two_sample_test_of_pixels(real, noisy(others, 0.21), seed=0).value > 0.99
    assert two_sample_test_of_pixels(real, noisy(others, 0.06), seed=0).low > 0.9
    same = [two_sample_test_of_pixels(real, others, seed=seed) for seed in range(10)]
    assert sum(found.low <= 0.5 <= found.high for found in same) >= 8


@pytest.mark.parametrize("fault", ["blur", "contrast", "checkerboard", "colour", "grain of colour"])
def test_pixels_and_spectra_see_faults_of_colour_images(fault: str) -> None:
    real, others = images("stacked", 300), images("stacked", 300, 300).double()
    grain = torch.randn(others.shape, generator=torch.Generator().manual_seed(1)).double()
    x = torch.arange(32)
    changed = {
        "blur": torch.nn.functional.avg_pool2d(torch.nn.functional.pad(others, (1, 1, 1, 1)), 3, 1),
        "contrast": 0.8 * others,
        "checkerboard": others + 6 * ((x[:, None] + x) % 2),
        "colour": 0.7 * others + 0.3 * others.mean(1, keepdim=True),
        # No luma: what red and blue gain, green loses.
        "grain of colour": others + 10 * grain[:, :1] * torch.tensor([1, -0.413 / 0.587, 1]).view(3, 1, 1),
    }[fault]
    found = two_sample_test_of_pixels(real, changed.round().clamp(0, 255).to(torch.uint8), seed=0)
    assert found.low > 0.7, found


def test_pixel_statistics_are_what_they_say() -> None:
    clean = images("glyphs", 5)
    found = pixel_statistics(clean)
    spectrum = power_spectrum(clean)
    assert found.shape == (5, spectrum.bands.shape[1] + spectrum.corner_bands.shape[1] + 11)
    torch.testing.assert_close(found[:, -11], clean.double().mean((1, 2, 3)) / 255)
    shares = torch.stack([torch.histc(image.float(), 8, 0, 256) for image in clean]) / 1024
    torch.testing.assert_close(found[:, -10:-2], shares.double())
    flat = pixel_statistics(torch.full((2, 3, 16, 16), 40, dtype=torch.uint8))
    assert flat.isfinite().all() and flat.shape[1] == 14 + 7 + 33 + 6


def test_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(UserError, match=r"fake: images of \(1, 32, 32\) against \(3, 32, 32\)"):
        two_sample_test_of_pixels(images("stacked", 8), images("glyphs", 8), seed=0)
