"""Blurred, upscaled and compressed images are told from sharp ones."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from hfgen.data import draw
from hfgen.diagnosis.data_quality import compressed, data_quality
from hfgen.errors import UserError


@pytest.fixture(scope="module", params=[16, 32])
def sharp(request) -> Tensor:
    return draw("glyphs", "test", 0, 100, request.param).images


def blur(images: Tensor, deviation: float) -> Tensor:
    blurred = gaussian_filter(images.double().numpy(), (0, 0, deviation, deviation))
    return torch.from_numpy(blurred.round().clip(0, 255).astype(np.uint8))


def natural(side: int) -> Tensor:
    """Noise with the spectrum of natural images, f^-2."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(generator.standard_normal((100, side, side))) / frequency).real
    return torch.from_numpy((noise / noise.std() * 40 + 127).clip(0, 255).astype(np.uint8))[:, None]


def test_sharp_images_are_called_sharp(sharp: Tensor):
    quality = data_quality(sharp)
    assert not quality.blurred and quality.kept == 1 and not compressed(quality)


def test_natural_spectra_are_called_sharp():
    assert not data_quality(natural(32)).blurred


def test_a_blur_is_found_and_its_size_too(sharp: Tensor):
    quality = data_quality(blur(sharp, 1.0))
    assert quality.blurred and quality.kept < 0.3
    assert quality.blur == pytest.approx(1.0, abs=0.25)
    assert data_quality(blur(natural(32), 1.0)).blur == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_upscaled_images_are_found(sharp: Tensor, mode: str):
    small = interpolate(sharp.float(), scale_factor=0.5, mode="area")
    large = interpolate(small, scale_factor=2, mode=mode).round().clamp(0, 255).to(torch.uint8)
    assert data_quality(large).blurred


def test_the_borders_of_jpegs_blocks_are_found():
    images = []
    for image in natural(64):
        buffer = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(buffer, "JPEG", quality=10)
        images.append(torch.from_numpy(np.array(Image.open(buffer))))
    assert compressed(data_quality(torch.stack(images)[:, None]))


def test_small_images_are_refused_and_flat_ones_have_no_blur():
    with pytest.raises(UserError, match="too few for a spectrum"):
        data_quality(torch.zeros((2, 1, 8, 8), dtype=torch.uint8))
    assert not data_quality(torch.full((2, 1, 16, 16), 7, dtype=torch.uint8)).blurred
