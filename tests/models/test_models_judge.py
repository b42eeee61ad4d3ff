"""The judge's whitening, against known covariances, and what its networks see of an image."""

import math

import pytest
import torch

from hfgen.models.judge import JudgeNetwork, Whitening
from hfgen.models.pixel_statistics import PixelStatistics, _log_power


def normal(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_whitened_statistics_have_the_variance_that_their_uncertainty_leaves():
    """Of two statistics with correlation .6 the components' variances are 1.6 and .4; of 8 images, 2 / 8 is added."""
    draws = normal(8, 2)
    draws = torch.linalg.qr(draws - draws.mean(0)).Q * 7**0.5
    draws = torch.stack([draws[:, 0], 0.6 * draws[:, 0] + 0.8 * draws[:, 1]], 1)
    # As if they had been drawn in: with deviation 1, they are these values again.
    before = 3 * torch.sinh(draws / 3)
    whitening = Whitening(2).double()
    whitening.fit(before * torch.tensor([1e-3, 1e3]) + 7)
    whitened = whitening(before * torch.tensor([1e-3, 1e3]) + 7).sinh()
    expected = torch.tensor([0.4 / 0.65, 1.6 / 1.85], dtype=torch.float64).diag()
    torch.testing.assert_close(whitened.T.cov(), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)


def test_one_odd_image_among_the_training_images_or_later_has_bounded_features():
    draws = normal(2000, 4)
    draws[0, 0] = 1e6
    whitening = Whitening(4)
    whitening.fit(draws)
    found = whitening(torch.tensor([[1e6, 0, 0, 0], [0, 1e6, 0, 0], [0, -30, 0, 0]]))
    assert found.abs().max() < 5 and 2 < found[2].norm() < found[1].norm()


def test_what_all_images_share_and_what_few_images_hardly_show_is_not_enlarged():
    draws = normal(30, 80)
    draws[:, 3] = 5 + 1e-9 * draws[:, 3]
    whitening = Whitening(80)
    whitening.fit(draws)
    assert whitening.matrix[3].abs().max() < 1
    fresh = whitening(normal(500, 80, 1).float())
    assert fresh.isfinite().all() and fresh.var(0).max() < 1


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 33), (1, 65), (3, 128)])
def test_an_images_features_are_64_whatever_its_size_and_do_not_depend_on_the_others(channels: int, side: int):
    torch.manual_seed(0)
    network = JudgeNetwork((channels, side, side)).eval()
    images = torch.rand(4, channels, side, side) * 2 - 1
    with torch.no_grad():
        network.whitening.fit(network.statistics(images))
        found = network.features(images)
        assert found.shape == (4, 64) and network(images).shape == (4, 64)
        torch.testing.assert_close(network.features(images[:1]), found[:1], rtol=1e-4, atol=1e-4)


def test_above_64_pixels_the_finest_detail_counts():
    torch.manual_seed(0)
    network = JudgeNetwork((1, 128, 128)).eval()
    grey = torch.zeros(1, 1, 128, 128)
    checks = grey + 0.5 * (torch.arange(128) % 2 * 2 - 1)
    with torch.no_grad():
        torch.testing.assert_close(network(grey), network(checks))
        assert (network.statistics(grey) - network.statistics(checks)).abs().max() > 0.01


def test_the_power_of_white_noise_is_its_variance_in_every_ring():
    noise = 0.3 * normal(4000, 32 * 32).view(-1, 32, 32).float()
    torch.testing.assert_close(_log_power(noise).exp().mean(0)[1:], torch.full((11,), 0.09), rtol=0.03, atol=0)


def test_a_wave_lies_in_its_ring():
    wave = torch.sin(2 * math.pi * 0.25 * torch.arange(64)).expand(1, 64, 64)
    assert int(_log_power(wave).argmax()) == int(0.25 * 2 * 11)


@pytest.mark.parametrize(("channels", "width"), [(1, 53), (3, 64)])
def test_pixel_statistics_take_any_size(channels: int, width: int):
    for side in (8, 31, 80):
        statistics = PixelStatistics((channels, side, side))
        images = torch.rand(70, channels, side, side) * 2 - 1
        statistics.whitening.fit(statistics.statistics(images))
        assert statistics.features(images).shape == (70, width)
        flat = statistics.features(torch.zeros(2, channels, side, side))
        assert flat.isfinite().all()
