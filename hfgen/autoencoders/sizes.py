"""Images of any size through an autoencoder: which side is taken by default, and what becomes of sides between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from hfgen.autoencoders.adapter import Autoencoder
from hfgen.errors import SettingsError

DEFAULT_SIDE = 256
"""Of models of any size: published PSNR and rFID are measured at it, whatever a config says."""
# A latent of fewer numbers a side than that isn't what a model of the field was trained with.
_SMALLEST_LATENT = 8

Noise: TypeAlias = Callable[[int, tuple[int, ...]], Tensor]
"""(an image's index, the shape of its latent) -> standard normal numbers."""


def default_side(codec: Autoencoder) -> int:
    """Side of the images that it is measured on where nobody chose one, in pixels.

    It is 256, or what the model was trained at where that is less; of a fixed size the only one. See `says_nothing`.
    """
    trained, factor = codec.trained_side, codec.factor
    if not codec.any_size and trained is not None:
        return trained
    if trained is None or says_nothing(codec):
        trained = DEFAULT_SIDE
    return max(1, min(trained, DEFAULT_SIDE) // factor) * factor


def says_nothing(codec: Autoencoder) -> bool:
    """Whether its `sample_size` is no more than the class's default, and gives next to no latent: nobody set it."""
    trained = codec.trained_side
    if not codec.any_size or trained is None:
        return False
    parameter = inspect.signature(type(codec.network).__init__).parameters.get("sample_size")
    is_default = parameter is not None and parameter.default == trained
    return is_default and trained < _SMALLEST_LATENT * codec.factor


def check_shape(codec: Autoencoder, height: int, width: int) -> None:
    """Refuse images that the network can't take.

    Raises:
        SettingsError: it has a fixed size, and this is another.
    """
    side = codec.traits.side
    if side is not None and (height, width) != (side, side):
        raise SettingsError(f"images: {height} x {width} pixels; the model takes {side} x {side} only: resize them")


def pad_to_factor(images: Tensor, factor: int) -> Tensor:
    """Images (N, C, H, W), continued below and on the right by their reflection until `factor` divides both sides."""
    for dimension in (2, 3):
        size = images.shape[dimension]
        images = images.index_select(dimension, _reflection(size, -(-size // factor) * factor).to(images.device))
    return images


def _reflection(size: int, total: int) -> Tensor:
    """Indices 0, 1, ..., size - 1, size - 2, ..., 1, 0, 1, ... of a row of `size` pixels; `total` of them."""
    period = max(1, 2 * (size - 1))
    positions = torch.arange(total) % period
    return torch.minimum(positions, period - positions)


def reconstruct_any_size(codec: Autoencoder, images: Sequence[Tensor], noise: Noise | None = None) -> list[Tensor]:
    """Reconstructions of images (C, H, W) in [-1, 1], each of its own size, in their order; not clipped.

    Sides that the factor doesn't divide are padded by reflection, and what was padded is cut off again. Images of one
    size are a batch; the others go one by one. With `noise` they are decoded from samples of the posterior.

    Raises:
        SettingsError: see `check_shape`.
    """
    made: dict[int, Tensor] = {}
    shapes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        shapes.setdefault(tuple(image.shape), []).append(index)
    for (_, height, width), members in shapes.items():
        check_shape(codec, height, width)
        batch = pad_to_factor(torch.stack([images[index] for index in members]), codec.factor)
        drawn = None if noise is None else partial(_drawn, noise, members)
        made.update(zip(members, codec.reconstruct(batch, drawn)[:, :, :height, :width], strict=True))
    return [made[index] for index in range(len(images))]


def _drawn(noise: Noise, members: list[int], shape: tuple[int, ...]) -> Tensor:
    return torch.stack([noise(index, shape[1:]) for index in members])
