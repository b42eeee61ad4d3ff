"""Pixels: uint8 in storage and metrics, float in [-1, 1] in models. The only place that converts them."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from hfgen.errors import SettingsError
from hfgen.files import write_bytes
from hfgen.limits import free_memory

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger("hfgen")

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
_LONGEST = {"JPEG": 65_535, "WEBP": 16_383}
"""What the formats' headers can say."""

Range: TypeAlias = Literal["auto", "signed", "unit"]
"""Of floats: signed is [-1, 1], unit is [0, 1]; auto is signed where a value of the set is negative, else unit."""

# Floats in [0, 255] have values above it, and no network's output without a negative value does.
_HIGHEST = 32.0


def to_float(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] (clipped) -> uint8, rounded to the nearest level."""
    return images.float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


def unit_to_uint8(images: Tensor) -> Tensor:
    """Float in [0, 1], as pipelines give it for `output_type="pt"` -> uint8, on the CPU."""
    return to_uint8(images.cpu() * 2 - 1)


def is_unit(images: Tensor) -> bool:
    """Whether floats have no negative value, as those in [0, 1]."""
    return images.is_floating_point() and bool(images.numel()) and float(images.detach().min()) >= 0


def floats_to_uint8(images: Tensor, values: Range, name: str) -> Tensor:
    """Floats of a stated range (clipped to it) -> uint8; `name` is for the error.

    Raises:
        SettingsError: floats in [0, 255], or no such range.
    """
    if values not in get_args(Range):
        raise SettingsError(f"values: {values!r} is unknown; give {', '.join(get_args(Range))}")
    if is_unit(images) and float(images.max()) > _HIGHEST:
        raise SettingsError(f"{name}: floats up to {float(images.max()):.4g}; give uint8, or floats in [-1, 1]")
    unit = is_unit(images) if values == "auto" else values == "unit"
    return to_uint8(images.float() * 2 - 1 if unit else images)


def to_pil(images: Tensor) -> list[Image.Image]:
    """uint8 (N, C, H, W) with C = 1, 3 or 4 -> PIL images of mode L, RGB or RGBA."""
    from PIL import Image

    arrays = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def from_pil(images: Sequence[Image.Image], channels: int) -> Tensor:
    """PIL images of one size -> uint8 (N, C, H, W), as L (C = 1), RGB (C = 3) or RGBA (C = 4)."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    arrays = [np.asarray(image.convert(mode)).reshape(image.height, image.width, channels) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def grid(images: Tensor, columns: int, zoom: int = 1, gap: int = 2) -> Image.Image:
    """Lay uint8 (N, C, H, W) out row by row on white, each pixel `zoom` screen pixels wide (no smoothing)."""
    from PIL import Image

    big = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    count, channels, height, width = big.shape
    mode, white = ("L", 255) if channels == 1 else ("RGB", (255, 255, 255))
    sheet = Image.new(mode, grid_size(count, height, width, columns, gap), white)
    for index, image in enumerate(to_pil(big)):
        sheet.paste(image, ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet


def grid_size(count: int, height: int, width: int, columns: int, gap: int = 2) -> tuple[int, int]:
    """Width and height of a `grid` of so many images, enlarged already."""
    return columns * (width + gap) - gap, -(-count // columns) * (height + gap) - gap


def stack(rows: Sequence[Sequence[Tensor]], gap: int = 2) -> Image.Image:
    """Lay uint8 images (C, H, W) of any sizes out in rows on white, each row as high as its highest image."""
    from PIL import Image

    pictures = [[to_pil(image[None])[0] for image in row] for row in rows]
    sheet = Image.new(pictures[0][0].mode, stack_size(rows, gap), "white")
    top = 0
    for row in pictures:
        left, height = 0, max(picture.height for picture in row)
        for picture in row:
            sheet.paste(picture, (left, top))
            left += picture.width + gap
        top += height + gap
    return sheet


def stack_size(rows: Sequence[Sequence[Tensor]], gap: int = 2) -> tuple[int, int]:
    """Width and height of a `stack`."""
    width = max(sum(image.shape[-1] + gap for image in row) - gap for row in rows)
    return width, sum(max(image.shape[-2] for image in row) + gap for row in rows) - gap


def write_png(path: Path, image: Image.Image) -> None:
    """Save a picture completely, or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def picture_format(path: Path) -> str:
    """Pillow's name of the format that a file's ending asks for.

    Raises:
        SettingsError: the ending is none of those that are written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise SettingsError(f"out: {path} has no ending that is written; give one of {', '.join(_FORMATS)}")
    return _FORMATS[path.suffix.lower()]


def check_room(path: Path, size: tuple[int, int]) -> None:
    """Refuse a picture of this width and height, for which the file's format has no room.

    Raises:
        SettingsError: it hasn't, or the ending is none of those that are written.
    """
    kind = picture_format(path)
    if max(size) > _LONGEST.get(kind, max(size)):
        given = " x ".join(map(str, size))
        raise SettingsError(f"out: {kind} holds {_LONGEST[kind]} pixels a side, not {given}; give a name in .png")


def check_memory(size: tuple[int, int], channels: int) -> None:
    """Refuse a picture of this width and height that there is no memory for, before it is made.

    Raises:
        SettingsError: it needs more than is free.
    """
    # As pixels and as a picture.
    if (needed := 2 * channels * math.prod(size)) > free_memory():
        given = " x ".join(map(str, size))
        raise SettingsError(
            f"out: a picture of {given} pixels needs {needed / 2**20:,.0f} MiB of memory, more than there is; "
            "show fewer images"
        )


def write_picture(path: Path, image: Image.Image) -> None:
    """Save a picture completely, or not at all, in the format of its ending. PNG and WebP keep every pixel, JPEG not.

    Raises:
        SettingsError: the ending is none of those that are written, or the format has no room for the picture.
    """
    kind = picture_format(path)
    check_room(path, image.size)
    if kind == "JPEG":
        logger.info("%s is JPEG, which loses detail; a name in .png keeps every pixel", path)
    buffer = io.BytesIO()
    image.save(buffer, kind, **_OPTIONS.get(kind, {}))
    write_bytes(path, buffer.getvalue())
