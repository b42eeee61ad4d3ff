import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfgen.errors import UserError
from hfgen.metrics import averaging_identity, high_frequency_ratio, luma, power_spectrum


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, side: int = 32, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, channels, side, side), generator=generator(seed), dtype=torch.uint8)


def blobs(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth random shapes with sharp edges."""
    waves = torch.rand(count, 1, 4, 4, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(waves, size=side, mode="bicubic")
    return torch.where(smooth > 0.5, 220, 30).to(torch.uint8)


def gains(side: int, sigma: float) -> torch.Tensor:
    frequency = torch.fft.fftfreq(side, dtype=torch.float64)
    return torch.exp(-2 * (math.pi * sigma) ** 2 * (frequency[:, None] ** 2 + frequency**2))


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Circular Gaussian blur, exact in frequency, rounded to 8 bits."""
    transformed = torch.fft.fft2(images.double()) * gains(images.shape[-1], sigma)
    return torch.fft.ifft2(transformed).real.round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("side", [16, 17, 28, 32, 65])
def test_powers_sum_to_the_variance(side: int) -> None:
    images = noise(3, side, seed=side)
    spectrum = power_spectrum(images)
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency).round(9)
    rings = [((radius > b / 32) & (radius <= (b + 1) / 32)).sum() for b in range(16)]
    counts = torch.tensor([count for count in rings if count], dtype=torch.float64)
    total = spectrum.bands @ counts + spectrum.corners * (radius > 0.5).sum()
    torch.testing.assert_close(total, luma(images).var((1, 2), correction=0))


def test_a_wave_has_its_power_at_its_frequency() -> None:
    x = torch.arange(32)
    wave = (127.5 + 100 * torch.cos(2 * math.pi * 10 * x / 32)).round().to(torch.uint8)
    spectrum = power_spectrum(wave.expand(1, 1, 32, 32))
    band = int(spectrum.bands[0].argmax())
    assert abs(float(spectrum.frequencies[band]) - 10 / 32) < 1 / 32
    assert spectrum.bands[0, band] / spectrum.bands[0].sum() > 0.999


def test_a_checkerboard_is_in_the_corners_alone() -> None:
    x = torch.arange(32)
    board = ((x[:, None] + x) % 2 * 200).to(torch.uint8)
    spectrum = power_spectrum(board.expand(1, 1, 32, 32))
    assert spectrum.corners[0] > 0 and spectrum.bands.max() < 1e-20
    assert spectrum.high[0] > 0


@pytest.mark.parametrize("sigma", [0.3, 0.5])
def test_gaussian_blur_multiplies_power_by_the_known_factor(sigma: float) -> None:
    images = noise(200)
    factor = gains(32, sigma).square()
    power = np.abs(np.fft.fft2(images[:, 0].numpy() / 255, norm="forward")) ** 2
    frequency = np.fft.fftfreq(32)
    radius = np.hypot(frequency[:, None], frequency)
    blurred = power_spectrum(blur(images, sigma))
    for band in range(16):
        ring = (radius > band / 32) & (radius <= (band + 1) / 32)
        expected = (power[:, ring] * factor.numpy()[ring]).mean()
        assert float(blurred.bands[:, band].mean()) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.4, 2.0))
def test_blur_lowers_the_high_frequency_ratio_and_noise_raises_it(seed: int, sigma: float) -> None:
    images = blobs(20, seed=seed)
    real = power_spectrum(images)
    grain = torch.randint(-25, 26, images.shape, generator=generator(seed + 1))
    noisy = (images + grain).clamp(0, 255).to(torch.uint8)
    assert high_frequency_ratio(real, real) == 1
    assert high_frequency_ratio(power_spectrum(blur(images, sigma)), real) < 1
    assert high_frequency_ratio(power_spectrum(noisy), real) > 1


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5))
def test_an_image_has_the_same_spectrum_in_any_order_and_batch(order: list[int], split: int) -> None:
    images = noise(6, 20, channels=3)
    whole, shuffled = power_spectrum(images), power_spectrum(images[order])
    torch.testing.assert_close(shuffled.bands, whole.bands[order])
    parts = [power_spectrum(part).high for part in (images[:split], images[split:])]
    torch.testing.assert_close(torch.cat(parts), whole.high)


def test_batches_of_a_large_set_are_joined_in_order() -> None:
    images = noise(600, 16)
    torch.testing.assert_close(power_spectrum(images).bands[550:], power_spectrum(images[550:]).bands)


def test_luma_follows_rec_601() -> None:
    primaries = torch.eye(3, dtype=torch.uint8).mul(255)[:, :, None, None]
    torch.testing.assert_close(luma(primaries)[:, 0, 0], torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))


def test_the_averaging_identity_is_1_for_conditional_means() -> None:
    images = noise(400, 16) // 4 + torch.arange(4, dtype=torch.uint8).repeat(100)[:, None, None, None] * 40
    centres = torch.stack([images[code::4].double().mean(0) for code in range(4)])
    reconstruction = centres.round().to(torch.uint8).repeat(100, 1, 1, 1)
    identity = averaging_identity(images, reconstruction)
    torch.testing.assert_close(identity.bands, torch.ones_like(identity.bands), atol=0.01, rtol=0)
    assert identity.high == pytest.approx(1, abs=0.01)


def test_the_averaging_identity_is_1_for_k_means_of_shapes() -> None:
    images = blobs(300)
    pixels = images.flatten(1).double()
    centres = pixels[:10]
    for _ in range(8):
        codes = torch.cdist(pixels, centres).argmin(1)
        centres = torch.stack([pixels[codes == code].mean(0) for code in range(10)])
    reconstruction = centres[codes].round().to(torch.uint8).reshape(images.shape)
    identity = averaging_identity(images, reconstruction)
    assert (identity.bands - 1).abs().max() < 0.02
    assert identity.high == pytest.approx(1, abs=0.02)


def test_the_averaging_identity_is_0_where_the_power_was_put_back() -> None:
    real, other = noise(400), noise(400, seed=1)
    identity = averaging_identity(real, other)
    assert identity.high == pytest.approx(0, abs=0.02)
    assert identity.missing.high.shape == identity.error.high.shape == (400,)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(0, 1, 32, 32, dtype=torch.uint8),
        torch.zeros(2, 2, 32, 32, dtype=torch.uint8),
        torch.zeros(2, 1, 32, 32),
        torch.zeros(32, 32, dtype=torch.uint8),
        torch.zeros(2, 1, 32, 15, dtype=torch.uint8),
    ],
)
def test_what_has_no_spectrum_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="images:"):
        power_spectrum(images)


def test_undefined_ratios_are_refused() -> None:
    flat = power_spectrum(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    with pytest.raises(UserError, match="real:"):
        high_frequency_ratio(flat, flat)
    with pytest.raises(UserError, match="reconstruction:"):
        averaging_identity(noise(2), noise(2))
    with pytest.raises(UserError, match="reconstruction:"):
        averaging_identity(noise(2), noise(3))
