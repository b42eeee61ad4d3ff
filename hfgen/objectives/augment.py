"""Differentiable augmentation for small data (DiffAugment; Zhao et al., 2006.10738)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Uniform = Callable[[tuple[int, ...]], Tensor]
"""Shape (n, ...) -> numbers in [0, 1)."""


def augment(images: Tensor, policies: Sequence[str], uniform: Uniform) -> Tensor:
    """Augment images (n, C, R, R) in [-1, 1], each with numbers of its own; gradients flow through.

    A GAN calls it on reals and on fakes, in the generator's step as in the discriminator's: what only the
    discriminator's reals went through, the generator would learn to draw.

    Args:
        images: Results may leave [-1, 1], and what moves in from outside or is cut out is 0.
        policies: Names of `POLICIES`, applied in this order; none gives the images themselves.
        uniform: Where the random numbers come from.
    """
    for policy in policies:
        images = POLICIES[policy](images, uniform)
    return images


def _color(images: Tensor, uniform: Uniform) -> Tensor:
    """Brightness by up to .5, then saturation by a factor in [0, 2), then contrast by one in [.5, 1.5)."""
    brightness, saturation, contrast = uniform((len(images), 3))[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translation(images: Tensor, uniform: Uniform, ratio: float = 1 / 8) -> Tensor:
    """Move by up to an eighth of the side each way, in whole pixels."""
    side = images.shape[-1]
    most = int(side * ratio + 0.5)
    shift = (uniform((len(images), 2)) * (2 * most + 1)).long() - most
    source = torch.arange(side, device=images.device) - shift[:, :, None]
    inside = (source >= 0) & (source < side)
    rows, columns = source.clamp(0, side - 1).unbind(1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved * (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


def _cutout(images: Tensor, uniform: Uniform, ratio: float = 1 / 2) -> Tensor:
    """Blank a square of half the side, centred anywhere in the image."""
    side = images.shape[-1]
    square = int(side * ratio + 0.5)
    first = (uniform((len(images), 2)) * (side + 1 - square % 2)).long() - square // 2
    place = torch.arange(side, device=images.device) - first[:, :, None]
    cut = (place >= 0) & (place < square)
    return images * ~(cut[:, 0, :, None] & cut[:, 1, None, :])[:, None]


POLICIES: dict[str, Callable[[Tensor, Uniform], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
