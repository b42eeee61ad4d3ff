"""The spectral distance: known values, its interval, and what it is blind to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import blobs, blur, gains, generator, noise

from hfgen.metrics import (
    power_spectrum,
    spectral_distance,
)


def test_the_spectral_distance_of_a_blur_is_that_of_its_known_factor() -> None:
    images = noise(300)
    distance = spectral_distance(power_spectrum(images), power_spectrum(blur(images, 0.5)), paired=True)
    power = gains(32, 0.5).square().reshape(-1)
    frequency = torch.fft.fftfreq(32, dtype=torch.float64)
    ring = torch.ceil(torch.hypot(frequency[:, None], frequency).reshape(-1) * 32)
    logs = torch.stack([power[ring == number].mean().log() for number in range(1, 24)])
    assert distance.value == pytest.approx(float(logs.square().mean().sqrt()), rel=5e-3)
    assert distance.high - distance.low < 0.01 * distance.value


def test_the_spectral_distance_sees_checkerboards_in_the_corners_alone() -> None:
    images = blobs(200)
    x = torch.arange(32)
    board = (images + 8 * ((x[:, None] + x) % 2)).to(torch.uint8)
    real, fake = power_spectrum(images), power_spectrum(board)
    assert spectral_distance(real, fake, paired=True).low > 0.3
    torch.testing.assert_close(real.bands, fake.bands)


def test_the_spectral_distance_of_a_set_to_itself_is_0() -> None:
    spectrum = power_spectrum(noise(40))
    assert spectral_distance(spectrum, spectrum, paired=True).value == 0
    alone = spectral_distance(spectrum, spectrum)
    assert alone.value == alone.low == 0 < alone.high


@pytest.mark.parametrize("change", [0.0, 0.3])
def test_the_interval_of_the_spectral_distance_holds_the_truth(change: float) -> None:
    from hfgen.metrics import PowerSpectrum

    slopes = torch.linspace(-1, 1, 9, dtype=torch.float64)

    def spectrum(seed: int, count: int, change: float) -> PowerSpectrum:
        # Powers with a heavy tail, correlated over the rings, of mean exp(change * slope).
        shared, own = (torch.randn(count, n, generator=generator(seed + n), dtype=torch.float64) for n in (1, 9))
        powers = (change * slopes + 0.6 * shared + 0.4 * own - 0.26).exp()
        return PowerSpectrum(slopes[:8], powers[:, :8], powers[:, 8], powers[:, 8:], *powers[:, :3].T)

    truth, held, values = float((change * slopes).square().mean().sqrt()), 0, []
    for seed in range(200):
        estimate = spectral_distance(spectrum(20 * seed, 200, 0.0), spectrum(10_000 + 20 * seed, 150, change))
        held += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
    # The interval is wide for equal distributions, whose square is 0 on average.
    assert held >= 180
    if change:
        assert held <= 198
        assert sum(values) / 200 == pytest.approx(truth, rel=0.05)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(20)))
def test_the_spectral_distance_is_blind_to_order_and_side(seed: int, order: list[int]) -> None:
    real, fake = noise(20, 16, seed=seed), blobs(20, 16, seed=seed)
    distance = spectral_distance(power_spectrum(real), power_spectrum(fake))
    for other in (
        spectral_distance(power_spectrum(real[order]), power_spectrum(fake)),
        spectral_distance(power_spectrum(fake), power_spectrum(real)),
    ):
        assert other.value == pytest.approx(distance.value) and other.high == pytest.approx(distance.high)
