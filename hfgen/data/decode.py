"""One stored image -> 8-bit pixels of the asked size.

In order: the EXIF orientation is applied; 16-bit grey is scaled to 8 bits; transparency is laid on white;
palette, CMYK and the rest become RGB; the square of the shorter side is cut from the centre, converted to the
asked channels, and brought to the resolution with Lanczos (Pillow's, which antialiases). An image that has
the resolution already keeps its pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hfgen.errors import UserError

SmallImages = Literal["refuse", "pad", "upscale"]


class DamagedImage(Exception):
    """The bytes are no readable image; the message says why."""


@dataclass(frozen=True)
class Rules:
    """The side in pixels, 1 or 3 channels, and what becomes of an image whose shorter side is below it."""

    resolution: int
    channels: int
    small_images: SmallImages


def read(stored: Mapping[str, Any] | None) -> Image.Image:
    """Load `{"bytes": ..., "path": ...}` (bytes first) as mode L where the image is grey, else RGB.

    Raises:
        DamagedImage: also for an image beyond Pillow's limit against decompression bombs.
    """
    if stored is None:
        raise DamagedImage("there is no image")
    try:
        with Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"]) as image:
            _refuse_bomb(image)
            return _to_grey_or_rgb(ImageOps.exif_transpose(image))
    except DamagedImage:
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage("no image format that Pillow knows") from error
    except Exception as error:  # On damaged bytes Pillow's plugins raise almost anything.
        raise DamagedImage(str(error) or type(error).__name__) from error


def decode(stored: Mapping[str, Any] | None, name: str, rules: Rules) -> Image.Image:
    """The square image (mode L or RGB) of the rules' resolution; `name` is for the error.

    Raises:
        DamagedImage: see `read`.
        UserError: the shorter side is below the resolution and small images are refused.
    """
    image = read(stored)
    side = min(image.size)
    if side < rules.resolution and rules.small_images == "refuse":
        raise UserError(
            f"resolution: {name} is {image.width} x {image.height} pixels, smaller than {rules.resolution}; "
            "lower the resolution, or pass --small_images pad or --small_images upscale"
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).convert("L" if rules.channels == 1 else "RGB")
    if side < rules.resolution and rules.small_images == "pad":
        return _pad(square, rules.resolution)
    if side == rules.resolution:
        return square
    return square.resize((rules.resolution, rules.resolution), Image.Resampling.LANCZOS)


def _refuse_bomb(image: Image.Image) -> None:
    # Pillow itself only warns up to twice its limit.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise DamagedImage(
            f"its {image.width} x {image.height} pixels exceed the limit of {Image.MAX_IMAGE_PIXELS} pixels"
        )


def _to_grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise DamagedImage("its pixels are floating-point numbers of unknown range")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255. Mode I is also what its older versions give for 16-bit PNG.
    wide = np.asarray(image).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise DamagedImage("its pixels are 32-bit integers of unknown range")
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))


def _pad(square: Image.Image, resolution: int) -> Image.Image:
    """Centre on the median colour of the border; the pixels stay as they are."""
    pixels = np.asarray(square)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = tuple(int(level) for level in np.median(border.reshape(len(border), -1), axis=0))
    sheet = Image.new(square.mode, (resolution, resolution), colour if len(colour) > 1 else colour[0])
    sheet.paste(square, ((resolution - square.width) // 2,) * 2)
    return sheet
