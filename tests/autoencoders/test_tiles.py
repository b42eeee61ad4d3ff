"""Tiles as diffusers makes them, of the side that was asked for, and the error along their seams."""

from __future__ import annotations

import pytest
import torch
from classes import SMALL, make, photographs
from test_classes import shuffled

from hfgen.autoencoders import Autoencoder
from hfgen.autoencoders.tiles import measure_seams, seam_errors, tile, untiled
from hfgen.errors import SettingsError

WITHOUT = {
    "AutoencoderKLTemporalDecoder": "diffusers has no tiling for AutoencoderKLTemporalDecoder",
    "AsymmetricAutoencoderKL": "diffusers has no tiling for",
    "VQModel": "diffusers has no tiling for",
    "AutoencoderRAE": "diffusers has no tiling for",
    "AutoencoderKLHunyuanImage": "the tiling of AutoencoderKLHunyuanImage in diffusers .* fails",
    "AutoencoderKLCosmos": "the tiling of AutoencoderKLCosmos in diffusers .* does nothing",
}
SLOW = {"AutoencoderKLMochi"}
TILED = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SMALL if name not in WITHOUT]


@pytest.mark.parametrize("name", WITHOUT)
def test_a_class_whose_tiling_does_not_work_is_refused(name: str):
    codec = Autoencoder(make(name))
    with pytest.raises(SettingsError, match=f"tile: {WITHOUT[name]}.*; leave it out"):
        tile(codec, 16 * codec.factor)
    assert codec.tile is None and not getattr(codec.network, "use_tiling", False)


@pytest.mark.parametrize("name", TILED)
@torch.no_grad()
def test_a_tiled_network_never_sees_more_than_a_tile(name: str):
    codec = Autoencoder(make(name))
    side = 8 * codec.factor
    images = photographs(1, (2 * side, 2 * side))
    whole = codec.reconstruct(images)
    tile(codec, side)
    seen = []
    # Whatever computes on pixels: the first convolution of the encoder.
    convolutions = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)
    first = next(part for part in codec.network.encoder.modules() if isinstance(part, convolutions))
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    tiled = codec.reconstruct(images)
    assert tiled.shape == images.shape and len(seen) > 1
    largest = images.numel() * (4 if name in SLOW else 1)  # It sees each pixel in several frequencies.
    assert all(torch.Size(shape).numel() < largest for shape in seen)
    with untiled(codec):
        torch.testing.assert_close(codec.reconstruct(images), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(codec.reconstruct(images), tiled, atol=1e-4, rtol=0)


def test_tiles_that_cannot_be_are_refused():
    codec = Autoencoder(make("AutoencoderKLHunyuanVideo"))
    for side, near in ((100, 96), (16, 32), (0, 32)):
        with pytest.raises(SettingsError, match=rf"tile: {side} pixels; .* a multiple of 32, such as {near}"):
            tile(codec, side)
    assert codec.tile is None and not codec.network.use_tiling
    with pytest.raises(ValueError, match="the network isn't tiled"):
        measure_seams(Autoencoder(shuffled(2)), photographs(1))


def test_an_error_on_the_seams_is_found_there():
    whole = torch.zeros(2, 3, 48, 48)
    tiled = whole.clone()
    tiled[:, :, 12::12] += 2 / 255  # where tiles of 16 pixels begin, one level
    tiled[:, :, :, 12::12] += 2 / 255
    first, *others = seam_errors(tiled, whole, 16)
    assert (first.nearest, first.farthest) == (0, 0) and all(seam.rmse == 0 for seam in others)
    lines = 3
    crossing, along = lines**2, 2 * lines * 48 - 2 * lines**2
    assert first.pixels == crossing + along
    assert first.rmse == pytest.approx(((4 * crossing + along) / (crossing + along)) ** 0.5, rel=1e-6)
    assert [seam.nearest for seam in (first, *others)] == [0, 1, 3, 7] and sum(
        s.pixels for s in (first, *others)
    ) == 48**2
    same = seam_errors(whole, whole, 16)
    assert all(seam.rmse == 0 for seam in same) and seam_errors(whole, whole, 64) == []


@torch.no_grad()
def test_the_seams_of_a_network_are_measured():
    codec = Autoencoder(make("AutoencoderKL"))
    tile(codec, 32)
    found = measure_seams(codec, photographs(2, (64, 64)))
    assert found["tile"] == 32 and found["images"] == 2 and 0 < found["rmse"] < 255
    near, far = found["by_distance"][0]["rmse"], found["by_distance"][-1]["rmse"]
    assert near >= 0 and far >= 0 and near != far
    small = measure_seams(codec, photographs(2, (32, 32)))
    assert small["rmse"] < 1e-3, "an image of one tile has no seams"
