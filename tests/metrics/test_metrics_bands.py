import math

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import Estimate, averaging_identity, band_measures, calibration, is_conditional_mean, power_spectrum
from hfgen.metrics.bands import Band

SIDE, COUNT = 32, 300
FREQUENCY = torch.hypot(torch.fft.fftfreq(SIDE, dtype=torch.float64)[:, None], torch.fft.fftfreq(SIDE).double())
# Variance of each coefficient: fields whose power falls with frequency, and the noise that hides a part of it.
SIGNAL = 4.0 / (1 + (FREQUENCY / 0.1) ** 2)
NOISE = 0.02 + 2.0 * FREQUENCY
KNOWN = SIGNAL / (SIGNAL + NOISE)
BANDS = {
    "low": (FREQUENCY > 0) & (FREQUENCY <= 0.125),
    "middle": (FREQUENCY > 0.125) & (FREQUENCY <= 0.25),
    "high": FREQUENCY > 0.25,
}


def white(count: int, seed: int) -> torch.Tensor:
    draws = torch.randn(count, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.fft.fft2(draws)


def pixels(coefficients: torch.Tensor) -> torch.Tensor:
    """Grey images, with few levels out of range."""
    return (128 + 12 * torch.fft.ifft2(coefficients).real).round().clamp(0, 255).to(torch.uint8)[:, None]


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    """Coefficients of Gaussian fields."""
    return white(COUNT, 0) * SIGNAL.sqrt()


@pytest.fixture(scope="module")
def mean(real: torch.Tensor) -> torch.Tensor:
    """Their exact conditional mean, given the fields with noise."""
    return KNOWN * (real + white(COUNT, 1) * NOISE.sqrt())


def blur(sigma: float) -> torch.Tensor:
    return torch.exp(-2 * (math.pi * sigma * FREQUENCY) ** 2)


def expected(cross: torch.Tensor, made: torch.Tensor, name: str) -> tuple[float, float, float]:
    """Gain, coherence and power of a band, from expected powers of each coefficient."""
    c, r, x = (float(power[BANDS[name]].sum()) for power in (cross, made, SIGNAL))
    return c / r, c**2 / (x * r), r / x


def check(real: torch.Tensor, made: torch.Tensor, cross: torch.Tensor, power: torch.Tensor, near: float = 0.04) -> None:
    found = band_measures(pixels(real), pixels(made)).estimates(seed=0)
    assert list(found) == list(BANDS)
    for name, band in found.items():
        values = [estimate.value for estimate in band]
        assert values == pytest.approx(expected(cross, power, name), rel=near), name
        assert all(e.low <= e.value <= e.high and e.n == COUNT for e in band)
        assert band.coherence.low >= 0 and band.coherence.high <= 1
        assert band.coherence.value == pytest.approx(band.gain.value**2 * band.power.value)


def verdicts(real: torch.Tensor, made: torch.Tensor) -> list[str]:
    bands = band_measures(pixels(real), pixels(made)).estimates(seed=0)
    return [calibration(band.gain) for band in bands.values()]


def test_the_exact_conditional_mean_has_gain_1_and_power_of_its_coherence(real, mean) -> None:
    check(real, mean, KNOWN * SIGNAL, KNOWN * SIGNAL)
    assert verdicts(real, mean) == ["conditional mean"] * 3
    assert is_conditional_mean(band_measures(pixels(real), pixels(mean)).estimates(seed=0)) is True


def test_a_shrunk_mean_has_the_same_coherence_and_a_larger_gain(real, mean) -> None:
    check(real, 0.8 * mean, 0.8 * KNOWN * SIGNAL, 0.64 * KNOWN * SIGNAL)
    assert verdicts(real, 0.8 * mean) == ["shrunk"] * 3


def test_a_posterior_sample_has_all_the_power_and_half_the_truth(real, mean) -> None:
    sample = mean + white(COUNT, 2) * (KNOWN * NOISE).sqrt()
    check(real, sample, KNOWN * SIGNAL, SIGNAL)
    high = band_measures(pixels(real), pixels(sample)).estimates(seed=0)["high"]
    assert high.power.low < 1 < high.power.high
    assert high.coherence.value == pytest.approx(high.gain.value**2, rel=0.1)
    assert verdicts(real, sample)[1:] == ["made up"] * 2


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.0])
def test_a_low_pass_is_coherent_and_no_conditional_mean(real, sigma: float) -> None:
    response = blur(sigma)
    # Of so little power, rounding to 8 bits is a part.
    check(real, response * real, response * SIGNAL, response**2 * SIGNAL + 1 / 12 / 12**2)
    assert verdicts(real, response * real)[2] == "shrunk"
    # The identity calls each of them above .9, as if they averaged.
    assert averaging_identity(pixels(real), pixels(response * real)).high > 0.9


def test_added_noise_is_detail_made_up(real) -> None:
    noisy = real + white(COUNT, 3) * 0.5
    check(real, noisy, SIGNAL, SIGNAL + 0.25)
    assert verdicts(real, noisy)[2] == "made up"


def test_the_mean_image_is_calibrated_and_knows_next_to_nothing(real) -> None:
    shared = white(1, 4) * SIGNAL.sqrt() * 0.3
    own = pixels(real + shared)
    mean = own.double().mean(0, keepdim=True).round().to(torch.uint8).expand_as(own)
    measures = band_measures(own, mean)
    for band in measures.estimates(seed=0).values():
        assert band.gain.value == pytest.approx(1, abs=0.03)
        assert band.coherence.value == pytest.approx(band.power.value, rel=0.06)
        assert band.coherence.high < 0.15
    assert measures.averaging_identity().high == pytest.approx(1, abs=0.02)


def test_grey_with_weak_noise_fools_the_identity_and_not_the_gain(real) -> None:
    """What the identity can't refuse: of an output without power it is 1 by arithmetic."""
    grain = torch.randint(-1, 2, (COUNT, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
    grey = (128 + grain).to(torch.uint8)
    measures = band_measures(pixels(real), grey)
    assert all(0.9 < e.value < 1.1 for e in measures.averaging_identity().estimates(seed=0).values())
    bands = measures.estimates(seed=0)
    assert all(band.coherence.high < 0.01 and band.gain.high < 0.95 for band in list(bands.values())[1:])
    assert is_conditional_mean(bands) is False


def test_the_identity_follows_from_the_three_numbers(real, mean) -> None:
    measures = band_measures(pixels(real), pixels(mean))
    band, identity = measures.estimates(seed=0)["high"], measures.averaging_identity()
    gain, _, power = (estimate.value for estimate in band)
    assert identity.high == pytest.approx((1 - power) / (1 + power - 2 * gain * power))


def test_rings_are_told_apart_and_the_window_changes_no_ratio_of_fields_without_borders(real, mean) -> None:
    plain, windowed = (band_measures(pixels(real), pixels(mean), window) for window in ("none", "hann"))
    rings = plain.ring_estimates(seed=0)
    assert len(rings) == len(plain.real.frequencies) == 16
    falling = [ring.coherence.value for ring in rings]
    assert falling[0] > 0.9 and falling[-1] < 0.2 and falling == sorted(falling, reverse=True)
    for first, second in zip(plain.estimates(seed=0).values(), windowed.estimates(seed=0).values(), strict=True):
        assert second.gain.value == pytest.approx(first.gain.value, abs=0.05)
        assert second.coherence.value == pytest.approx(first.coherence.value, abs=0.05)
    assert windowed.real.window == "hann"
    torch.testing.assert_close(windowed.real.high, power_spectrum(pixels(real), "hann").high)


def test_a_copy_is_a_copy(real) -> None:
    images = pixels(real)
    for band in band_measures(images, images).estimates(seed=0).values():
        assert all((e.value, e.low, e.high) == pytest.approx((1, 1, 1)) for e in band)
    with pytest.raises(UserError, match="reconstruction: no error"):
        averaging_identity(images, images)


@pytest.mark.parametrize("measure", ["gain", "coherence", "power"])
def test_intervals_hold_the_truth(measure: str) -> None:
    truth = dict(zip(("gain", "coherence", "power"), expected(KNOWN * SIGNAL, SIGNAL, "high"), strict=True))[measure]
    held = 0
    for seed in range(60):
        x = white(60, 3 * seed + 10) * SIGNAL.sqrt()
        y = KNOWN * (x + white(60, 3 * seed + 11) * NOISE.sqrt()) + white(60, 3 * seed + 12) * (KNOWN * NOISE).sqrt()
        estimate = getattr(band_measures(pixels(x), pixels(y)).estimates(seed=seed)["high"], measure)
        held += estimate.low <= truth <= estimate.high
    assert held >= 52


def test_unrelated_images_have_no_coherence() -> None:
    held = 0
    for seed in range(40):
        band = band_measures(pixels(white(60, 2 * seed)), pixels(white(60, 2 * seed + 1))).estimates(seed=seed)["high"]
        held += band.coherence.low == 0 and band.gain.low < 0 < band.gain.high
    assert held >= 34


def test_a_verdict_needs_the_whole_interval() -> None:
    for low, high, verdict in (
        (0.96, 1.04, "conditional mean"),
        (0.94, 1.04, "undecided"),
        (0.5, 1.5, "undecided"),
        (1.06, 1.2, "shrunk"),
        (0.2, 0.94, "made up"),
    ):
        assert calibration(Estimate((low + high) / 2, low, high, 9)) == verdict
    sure, unsure, off = (Estimate(1, low, 1, 9) for low in (0.99, 0.5, 1))
    assert is_conditional_mean({"low": Band(sure, sure, sure), "high": Band(unsure, sure, sure)}) is None
    wrong = Estimate(0.5, 0.4, 0.6, 9)
    assert is_conditional_mean({"low": Band(wrong, off, off), "high": Band(unsure, sure, sure)}) is False


def test_pairs_without_an_answer_are_refused(real) -> None:
    images = pixels(real)[:5]
    for other, message in (
        (images[:4], r"reconstruction: shape \(4, 1, 32, 32\)"),
        (torch.full_like(images, 9), "reconstruction: no power"),
        (images.double(), "reconstruction: float64"),
    ):
        with pytest.raises(UserError, match=message):
            band_measures(images, other).estimates(seed=0)
    with pytest.raises(UserError, match="real: no power"):
        band_measures(torch.full_like(images, 9), images).estimates(seed=0)
    with pytest.raises(UserError, match="values: 1 images are too few"):
        band_measures(images[:1], images[1:2]).estimates(seed=0)
