"""Images as other code holds them -> pixels that can be measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hfgen.data.decode import DamagedImage, flatten
from hfgen.errors import DataError
from hfgen.images import Range, floats_to_uint8, from_pil
from hfgen.pipelines.finite import check_images


def to_pixels(images: Any, shape: tuple[int, int, int], *, values: Range = "auto", name: str = "images") -> Tensor:
    """Images -> uint8 (N, C, R, R), on the CPU; floats are clipped to their range and rounded.

    Args:
        images: uint8 or float, a tensor (N, C, R, R) or an array (N, R, R, C); PIL images; a list of any of those
            without N; or what a pipeline or a network of diffusers returns.
        shape: (C, R, R) that they have to have; PIL images of another mode are converted.
        values: Of floats.
        name: In errors.

    Raises:
        DataError: another shape, or what is no images.
        SettingsError: floats in [0, 255].
        NonFinite: NaN or infinity.
    """
    return numbers_to_pixels(to_tensor(images, shape, name), values, name)


def numbers_to_pixels(given: Tensor, values: Range, name: str) -> Tensor:
    """The last step of `to_pixels`: what `to_tensor` gave -> uint8.

    Raises:
        SettingsError: floats in [0, 255].
    """
    return given if given.dtype == torch.uint8 else floats_to_uint8(given, values, name)


def to_tensor(images: Any, shape: tuple[int, int, int], name: str = "images") -> Tensor:
    """Images -> their numbers (N, C, R, R), on the CPU: uint8, or floats of whatever range; see `to_pixels`.

    Raises:
        DataError: another shape, or what is no images.
        NonFinite: NaN or infinity.
    """
    images = _unpacked(images)
    if isinstance(images, (Image.Image, Mapping, str)) or not isinstance(images, (Tensor, np.ndarray, Iterable)):
        images = [images]
    if not isinstance(images, (Tensor, np.ndarray)):
        images = _stacked(list(images), shape, name)
    if isinstance(images, np.ndarray):
        channels_last = images if images.ndim == 4 else images[..., None]
        images = torch.from_numpy(np.ascontiguousarray(channels_last)).movedim(-1, 1)
    images = images.detach().cpu()
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        wanted = " x ".join(map(str, shape))
        raise DataError(f"{name}: shape {tuple(images.shape)}, but the real images are N x {wanted}; convert or resize")
    if images.dtype == torch.uint8:
        return images.contiguous()
    if not images.is_floating_point():
        raise DataError(f"{name}: numbers of {images.dtype}; give uint8, or floats in [-1, 1]")
    check_images(images)
    return images


def _unpacked(images: Any) -> Any:
    """The images in what pipelines (`images`) and networks (`sample`) of diffusers return."""
    for field in ("images", "sample"):
        found = getattr(images, field, None)
        if found is not None and not callable(found):
            return found
    return images[0] if isinstance(images, tuple) and len(images) == 1 else images


def _stacked(images: list[Any], shape: tuple[int, int, int], name: str) -> Any:
    if images and all(isinstance(image, Image.Image) for image in images):
        return _from_pictures(images, shape, name)
    for kind, stack in ((Tensor, torch.stack), (np.ndarray, np.stack)):
        if images and all(isinstance(image, kind) for image in images):
            if len({tuple(image.shape) for image in images}) > 1:
                raise DataError(f"{name}: they differ in shape; convert or resize")
            return stack(images)
    given = type(images[0]).__name__ if images else "nothing"
    raise DataError(f"{name}: {given} isn't an image; give tensors, arrays or PIL images")


def _from_pictures(images: list[Image.Image], shape: tuple[int, int, int], name: str) -> Tensor:
    channels, side, _ = shape
    odd = next((image.size for image in images if image.size != (side, side)), None)
    if odd is not None:
        size = " x ".join(map(str, odd))
        raise DataError(f"{name}: one has {size} pixels, but the real images have {side} x {side}; resize them")
    try:
        return from_pil([flatten(image, channels)[0] for image in images], channels)
    except DamagedImage as error:
        raise DataError(f"{name}: {error}") from None
