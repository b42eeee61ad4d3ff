import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import blobs, blur, gains, generator, noise

from hfgen.errors import UserError
from hfgen.metrics import (
    averaging_identity,
    high_frequency_ratio,
    luma,
    power_spectrum,
    spectral_distance,
    spectral_window,
)


def cropped_fields(count: int, side: int, sigma: float, seed: int = 0) -> torch.Tensor:
    """1/f fields of 128 px, blurred by a Gaussian of `sigma` px before they are cropped, as a blurred photograph is."""
    frequency = torch.fft.fftfreq(128, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency)
    draws = torch.randn(count, 128, 128, generator=generator(seed), dtype=torch.float64)
    crisp = torch.fft.fft2(draws) / radius.clamp_min(1 / 128)
    crisp[:, 0, 0] = 0
    fields = torch.fft.ifft2(crisp * torch.exp(-2 * (math.pi * sigma * radius) ** 2)).real
    return (
        (128 + 35 * fields / torch.fft.ifft2(crisp).real.std())[:, None, :side, :side]
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )


@pytest.mark.parametrize("side", [32, 64])
def test_a_window_keeps_the_step_at_the_borders_out_of_a_blurs_spectrum(side: int) -> None:
    frequency = torch.fft.fftfreq(128, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency)
    power = torch.where(radius > 0.25, radius**-2, 0)
    # Of the uncropped fields, which are periodic.
    truth = float((power * torch.exp(-((2 * math.pi * radius) ** 2))).sum() / power.sum())
    assert truth == pytest.approx(0.016, abs=0.001)
    real, blurred = cropped_fields(150, side, 0.0), cropped_fields(150, side, 1.0)
    assert spectral_window(real) == "hann"
    ratios = {w: high_frequency_ratio(power_spectrum(blurred, w), power_spectrum(real, w)) for w in ("none", "hann")}
    assert ratios["none"] > 3 * truth
    assert ratios["hann"] == pytest.approx(truth, rel=0.3)


@pytest.mark.parametrize("side", [16, 17, 32])
def test_a_windowed_spectrum_has_white_noises_power_and_sums_to_the_weighted_variance(side: int) -> None:
    images = noise(200, side)
    plain, windowed = power_spectrum(images), power_spectrum(images, "hann")
    assert float(windowed.bands[:, 2:].mean()) == pytest.approx(float(plain.bands[:, 2:].mean()), rel=0.03)
    columns = torch.from_numpy(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2)
    weights = columns[:, None] * columns
    values = luma(images)
    centred = (values - (values * weights).sum((1, 2), keepdim=True) / weights.sum()) * weights
    expected = centred.square().mean((1, 2)) / weights.square().mean()
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency).round(9)
    rings = [((radius > b / 32) & (radius <= (b + 1) / 32)).sum() for b in range(16)]
    counts = torch.tensor([count for count in rings if count], dtype=torch.float64)
    torch.testing.assert_close(windowed.bands @ counts + windowed.corners * (radius > 0.5).sum(), expected)


def test_brightness_does_not_leak_through_a_window() -> None:
    spectrum = power_spectrum(torch.full((2, 1, 32, 32), 200, dtype=torch.uint8), "hann")
    assert spectrum.window == "hann" and spectrum.bands.max() < 1e-25


def test_the_window_is_for_images_whose_borders_do_not_meet() -> None:
    from hfgen.data import draw

    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(3, 1, 32, 32)
    assert spectral_window(ramp) == spectral_window(ramp.transpose(2, 3)) == "hann"
    for flat in (draw("glyphs", "test", 0, 60, 32).images, noise(50), ramp * 0 + 9):
        assert spectral_window(flat) == "none"
    # Dark on white, as drawings are.
    assert spectral_window(255 - draw("glyphs", "test", 0, 60, 32).images) == "none"
    assert spectral_window(cropped_fields(40, 32, 0.0).expand(-1, 3, -1, -1)) == "hann"


def test_spectra_through_different_windows_are_not_compared() -> None:
    plain, windowed = power_spectrum(noise(5)), power_spectrum(noise(5), "hann")
    for compare in (high_frequency_ratio, spectral_distance):
        with pytest.raises(UserError, match=r"window (none|hann) against (none|hann) of real"):
            compare(plain, windowed)


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


def test_the_averaging_identity_is_1_for_linear_autoencoders_of_any_width() -> None:
    images = torch.nn.functional.avg_pool2d(noise(500, 34).double(), 3, 1).round().to(torch.uint8)
    pixels = images.flatten(1).double()
    mean = pixels.mean(0)
    _, _, directions = torch.linalg.svd(pixels - mean, full_matrices=False)
    for width in (2, 40, 200):
        kept = directions[:width].T @ directions[:width]
        output = (mean + (pixels - mean) @ kept).round().clamp(0, 255).to(torch.uint8).reshape(images.shape)
        identity = averaging_identity(images, output)
        assert all(abs(e.value - 1) < 0.02 for e in identity.estimates(seed=0).values())
        assert (identity.bands - 1).abs().max() < 0.05


def test_the_bands_of_the_identity_are_told_apart() -> None:
    images = blobs(200)
    grain = torch.randint(-9, 10, images.shape, generator=generator(1))
    soft = blur(images, 1.0)
    # Averaged and then made crisp again by noise: no low frequency is put back, and all of the high are.
    identity = averaging_identity(images, (soft + 3 * grain).clamp(0, 255).to(torch.uint8))
    estimates = identity.estimates(seed=0)
    assert list(estimates) == ["low", "middle", "high"]
    assert estimates["high"].value == identity.high < estimates["middle"].value
    assert all(e.low <= e.value <= e.high and e.n == 200 for e in estimates.values())
    rings = identity.ring_estimates(seed=0)
    assert [e.value for e in rings] == pytest.approx(identity.bands.tolist())


def test_bands_are_means_of_the_bins_between_their_edges() -> None:
    images = noise(3, 20)
    spectrum = power_spectrum(images)
    power = np.abs(np.fft.fft2(images[:, 0].numpy() / 255, norm="forward")) ** 2
    frequency = np.fft.fftfreq(20)
    radius = np.hypot(frequency[:, None], frequency).round(9)
    edges = {"low": (0, 0.125), "middle": (0.125, 0.25), "high": (0.25, 1)}
    for name, (above, up_to) in edges.items():
        expected = power[:, (radius > above) & (radius <= up_to)].mean(1)
        np.testing.assert_allclose(getattr(spectrum, name), expected, rtol=1e-9)


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
    real = power_spectrum(noise(3, 16))
    for other, field in (
        (flat, "fake: no power at some frequencies"),
        (power_spectrum(noise(3, 20)), "fake: another"),
        (power_spectrum(noise(1, 16)), "fake: 1 image"),
    ):
        with pytest.raises(UserError, match=field):
            spectral_distance(real, other)
    with pytest.raises(UserError, match="fake: 4 images for 3"):
        spectral_distance(real, power_spectrum(noise(4, 16)), paired=True)
