import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import LargestTensor
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from hfgen.errors import UserError
from hfgen.metrics import capped_psnr, ms_ssim, mse, psnr, ssim


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_psnr_of_the_textbook_pair_is_2_5527() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    value = psnr(x, x.flip(0, 1), 3)
    assert value.shape == () and value.dtype == torch.float64
    assert float(value) == pytest.approx(10 * math.log10(9 / 5)) == pytest.approx(2.5527, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_metrics_agree_with_scikit_image(channels: int) -> None:
    x, other = noise(4, channels, 20, 24), noise(4, channels, 20, 24, seed=1)
    y = x // 2 + other // 2
    for row, (a, b) in enumerate(zip(x.numpy(), y.numpy(), strict=True)):
        assert float(mse(x, y)[row]) == pytest.approx(mean_squared_error(a, b))
        assert float(psnr(x, y, 255)[row]) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255))
        # scikit-image leaves out the 5 pixels at each border: it gets them mirrored, to leave those out.
        mirrored = (np.pad(image, ((0, 0), (5, 5), (5, 5)), mode="reflect") for image in (a, b))
        oracle = structural_similarity(
            *mirrored, channel_axis=0, data_range=255, gaussian_weights=True, use_sample_covariance=False
        )
        assert float(ssim(x, y, 255)[row]) == pytest.approx(oracle, abs=1e-6)


def test_ssim_of_uniform_noise_and_three_quarters_of_it_is_922() -> None:
    x = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert ssim(x, 0.75 * x, 1).mean() == pytest.approx(0.922, abs=2e-3)


def test_ms_ssim_of_uniform_noise_and_three_quarters_of_it_is_963() -> None:
    x = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(x, 0.75 * x, 1).mean() == pytest.approx(0.963, abs=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_similarities_and_psnr_agree_with_torchmetrics(channels: int) -> None:
    from torchmetrics.functional import image as oracle

    x = torch.rand(2, channels, 180, 177, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    waves = torch.linspace(0, 9, 177).sin().double()
    x = (x + waves) / 2
    y = x + 0.3 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settings = {"data_range": 2.0, "reduction": "none"}
    expected = oracle.structural_similarity_index_measure(x, y, **settings)
    torch.testing.assert_close(ssim(x, y, 2), expected, rtol=1e-9, atol=0)
    expected = oracle.multiscale_structural_similarity_index_measure(x, y, **settings)
    torch.testing.assert_close(ms_ssim(x, y, 2), expected, rtol=1e-6, atol=0)
    expected = oracle.peak_signal_noise_ratio(x, y, dim=(1, 2, 3), **settings)
    torch.testing.assert_close(psnr(x, y, 2), expected, rtol=1e-6, atol=0)


def test_opposite_images_have_no_ms_ssim() -> None:
    x = torch.rand(1, 1, 176, 176, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(x, 1 - x, 1).tolist() == [0] and ms_ssim(x, x, 1).tolist() == pytest.approx([1])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 60))
def test_more_noise_and_more_blur_are_less_like(seed: int, level: int) -> None:
    x = torch.nn.functional.interpolate(noise(4, 1, 8, 8, seed=seed).double(), size=32).byte()
    grain = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    noisy = [(x + level * times * grain).clamp(0, 255).byte() for times in (1, 2)]
    soft = [torch.nn.functional.avg_pool2d(x.double(), k, 1, k // 2, count_include_pad=False).byte() for k in (3, 7)]
    for less, more in (noisy, soft):
        assert (psnr(x, less, 255) > psnr(x, more, 255)).all() and (ssim(x, less, 255) > ssim(x, more, 255)).all()


def test_identical_images_give_infinite_psnr_and_ssim_1() -> None:
    x = noise(2, 1, 16, 16)
    assert psnr(x, x, 255).isposinf().all()
    assert ssim(x, x, 255).tolist() == pytest.approx([1, 1])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_an_image_scores_the_same_in_any_batch(seed: int, split: int) -> None:
    x, y = noise(5, 3, 12, 12, seed=seed), noise(5, 3, 12, 12, seed=seed + 1)
    for metric in (lambda a, b: psnr(a, b, 255), lambda a, b: ssim(a, b, 255), mse):
        parts = torch.cat([metric(x[:split], y[:split]), metric(x[split:], y[split:])])
        torch.testing.assert_close(parts, metric(x, y), rtol=1e-9, atol=1e-12)


def test_one_image_scores_as_in_a_batch() -> None:
    x, y = noise(1, 1, 12, 12), noise(1, 1, 12, 12, seed=1)
    for metric in (psnr, ssim):
        torch.testing.assert_close(metric(x[0, 0], y[0, 0], 255), metric(x, y, 255)[0])


@pytest.mark.parametrize(
    ("x", "y", "data_range", "field"),
    [
        (torch.zeros(2, 1, 12, 12), torch.zeros(1, 1, 12, 12), 1, "y:"),
        (torch.zeros(0, 1, 12, 12), torch.zeros(0, 1, 12, 12), 1, "x:"),
        (torch.zeros(3, 12, 12), torch.zeros(3, 12, 12), 1, "x:"),
        (torch.full((12, 12), math.nan), torch.zeros(12, 12), 1, "x:"),
        (torch.zeros(12, 12), torch.full((12, 12), math.inf), 1, "y:"),
        (torch.zeros(12, 12), torch.zeros(12, 12), 0, "data_range:"),
    ],
)
def test_what_cannot_be_scored_is_refused(x: torch.Tensor, y: torch.Tensor, data_range: float, field: str) -> None:
    for metric in (psnr, ssim):
        with pytest.raises(UserError, match=field):
            metric(x, y, data_range)


def test_ssim_refuses_images_below_its_window() -> None:
    with pytest.raises(UserError, match="ssim: images of 10 x 32 are too small; use 11 x 11 or more, or mse"):
        ssim(noise(1, 1, 10, 32), noise(1, 1, 10, 32), 255)
    with pytest.raises(UserError, match="ms_ssim: images of 200 x 175 are too small; use 176 x 176 or more, or ssim"):
        ms_ssim(noise(1, 1, 200, 175), noise(1, 1, 200, 175), 255)


def test_capped_psnr_is_psnr_but_finite_for_an_exact_copy() -> None:
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[1] = 255 - other[1]
    other[2, 0, 0, 0] = other[2, 0, 0, 0].int() ^ 1
    values = capped_psnr(images, other)
    assert values[1] == psnr(images, other, 255)[1]
    torch.testing.assert_close(values[0], values[2])
    assert values[2] == psnr(images, other, 255)[2]


@pytest.mark.parametrize("score", [mse, capped_psnr, lambda x, y: ssim(x, y, 255)])
def test_a_large_set_is_converted_to_floats_a_few_images_at_a_time(score) -> None:
    x, y = noise(96, 3, 128, 128), noise(96, 3, 128, 128, seed=1)
    with LargestTensor() as largest:
        scores = score(x, y)
    assert largest.bytes < 0.4 * 8 * x.numel()
    assert torch.equal(scores[:5], score(x[:5], y[:5]))
