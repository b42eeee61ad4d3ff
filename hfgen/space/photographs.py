"""The examples of large autoencoders where no data are given: photographs that scikit-image brings along."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hfgen.data.decode import Rules, decode
from hfgen.images import from_pil

NAME = "photographs of scikit-image"
_LEAST = 64
# Without copyright (NASA, or CC0), in colour, and part of its wheel: nothing is fetched.
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")


def suit(sizes: Iterable[tuple[int, int]]) -> bool:
    """Whether photographs show more of models of these resolutions and channels than letters do."""
    return all(resolution >= _LEAST and channels == 3 for resolution, channels in sizes)


def photographs(resolution: int, channels: int) -> Tensor:
    """The centre squares, uint8 (5, C, R, R); smaller ones than R are padded, not enlarged."""
    from PIL import Image
    from skimage import data

    rules = Rules(resolution, channels, "pad")
    pictures = ((name, Image.fromarray(getattr(data, name)())) for name in _PHOTOGRAPHS)
    return torch.cat([from_pil([decode(picture, name, rules)], channels) for name, picture in pictures])
