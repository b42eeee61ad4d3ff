import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import sobel_h, sobel_v
from skimage.measure import blur_effect

from hfgen.errors import UserError
from hfgen.metrics import luma, sharpness


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def shapes(count: int, seed: int = 0) -> torch.Tensor:
    waves = torch.rand(count, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(waves, size=32, mode="bicubic")
    return torch.where(smooth > 0.5, 200, 50).to(torch.uint8)


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma))).round().byte()


@pytest.mark.parametrize("size", [(11, 11), (16, 29), (64, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_panel_is_scikit_images_and_scipys(size: tuple[int, int], channels: int) -> None:
    images = torch.cat([noise(2, channels, *size), (noise(1, channels, *size, seed=1).int() // 40 * 40).byte()])
    images[2, :, 3:7, 4:9] = 255
    scores, inner = sharpness(images), (slice(1, -1), slice(1, -1))
    for row, image in enumerate(luma(images).numpy()):
        assert float(scores["blur_effect"][row]) == pytest.approx(blur_effect(image), rel=1e-12)
        assert float(scores["laplacian_variance"][row]) == pytest.approx(ndimage.laplace(image)[inner].var(), rel=1e-12)
        # Its slopes are over two pixels, ours per pixel.
        slopes = (sobel_h(image) / 2) ** 2 + (sobel_v(image) / 2) ** 2
        assert float(scores["tenengrad"][row]) == pytest.approx(slopes[inner].mean(), rel=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.6, 3.0))
def test_blur_lowers_sharpness_and_noise_raises_it(seed: int, sigma: float) -> None:
    images = shapes(6, seed)
    grain = torch.randint(-25, 26, images.shape, generator=torch.Generator().manual_seed(seed))
    real, soft, noisy = (
        {name: float(score.mean()) for name, score in sharpness(x).items()}
        for x in (images, blur(images, sigma), (images + grain).clamp(0, 255).byte())
    )
    for name in ("laplacian_variance", "tenengrad"):
        assert soft[name] < real[name] < noisy[name]
    # Beside edges as sharp as pixels allow, noise is what the blur effect takes for softer.
    assert real["blur_effect"] < min(soft["blur_effect"], noisy["blur_effect"])


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 4))
def test_an_image_scores_the_same_in_any_order_and_batch(order: list[int], split: int) -> None:
    images = noise(5, 3, 12, 15)
    whole = sharpness(images)
    for name, scores in sharpness(images[order]).items():
        assert scores.dtype == torch.float64
        torch.testing.assert_close(scores, whole[name][order], rtol=1e-12, atol=0)
    parts = [sharpness(part) for part in (images[:split], images[split:])]
    for name, scores in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), scores, rtol=1e-12, atol=0)


def test_images_of_many_pixels_are_joined_in_order() -> None:
    images = noise(2, 1, 740, 740)
    whole, last = sharpness(images), sharpness(images[1:])
    assert all(torch.equal(last[name], whole[name][1:]) for name in whole)


def test_one_colour_is_as_blurred_as_can_be() -> None:
    scores = sharpness(torch.full((2, 3, 16, 16), 77, dtype=torch.uint8))
    assert {name: score.tolist() for name, score in scores.items()} == {
        "laplacian_variance": pytest.approx([0, 0], abs=1e-25),
        "tenengrad": pytest.approx([0, 0], abs=1e-25),
        "blur_effect": pytest.approx([1, 1]),
    }
    assert np.isclose(blur_effect(np.full((16, 16), 0.3)), 1)


@pytest.mark.parametrize(
    "images", [torch.zeros(0, 1, 16, 16).byte(), torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 10, 32).byte()]
)
def test_what_has_no_sharpness_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="images:"):
        sharpness(images)
