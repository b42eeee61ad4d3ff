"""One stored image -> 8-bit pixels of the asked size.

In order: the EXIF orientation is applied; 16-bit grey is scaled to 8 bits; transparency is composited on white;
palette, CMYK and the rest become RGB; the square of the shorter side is cut from the centre, converted to the
asked channels, and brought to the resolution with Lanczos (Pillow's, which antialiases). An image that has
the resolution already keeps its pixels. An array is taken as it is, if its pixels are whole numbers; booleans are
black and white.
"""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hfgen.data_options import SmallImages
from hfgen.errors import DataError

Stored: TypeAlias = "Mapping[str, Any] | np.ndarray | Image.Image | None"
"""`{"bytes": ..., "path": ...}` (bytes first), pixels (H, W), (H, W, C) or (C, H, W), or a picture of Pillow."""

_LOOKED_AT, _TIMED, _LONG = 16, 5, 2e-4
"""Images of which so many are timed, and the seconds from which on threads are faster."""
_GREY_MODES = ("1", "L", "LA", "La")
_LOSSLESS_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBX", "RGBa")


class DamagedImage(Exception):
    """The bytes are no readable image; the message says why."""


@dataclass(frozen=True)
class Rules:
    """The side in pixels, 1 or 3 channels, and what becomes of an image whose shorter side is below it."""

    resolution: int
    channels: int
    small_images: SmallImages


@dataclass(frozen=True)
class Decoded:
    """An image, and what was done to it.

    Attributes:
        image: Of mode L or RGB.
        was_grey: Whether it was stored without colour.
        changes: What its pixels lost, in words.
        peak: The highest level of a 16-bit image; else None.
    """

    image: Image.Image
    was_grey: bool
    changes: tuple[str, ...] = ()
    peak: int | None = None


def read(stored: Stored) -> Image.Image:
    """Load what is stored as mode L where the image is grey, else RGB.

    Raises:
        DamagedImage: also for an image beyond Pillow's limit against decompression bombs.
    """
    return _read(stored).image


def decode(stored: Stored, name: str, rules: Rules) -> Image.Image:
    """The square image (mode L or RGB) of the rules' resolution; `name` is for the error.

    Raises:
        DamagedImage: see `read`.
        DataError: the shorter side is below the resolution and small images are refused.
    """
    return decode_and_tell(stored, name, rules).image


def decode_and_tell(stored: Stored, name: str, rules: Rules) -> Decoded:
    """`decode`, with what was done to the image."""
    found = _read(stored)
    image, changes = found.image, [*found.changes]
    side = min(image.size)
    if side < rules.resolution and rules.small_images == "refuse":
        raise DataError(
            f"resolution: {name} is {image.width} x {image.height} pixels, smaller than {rules.resolution}; "
            "lower the resolution, or pass --small_images pad or --small_images upscale"
        )
    if image.width != image.height:
        changes.append("cropped to the centre square")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = _in_mode(image.crop((left, top, left + side, top + side)), rules.channels, changes)
    if side < rules.resolution:
        changes.append(f"smaller than {rules.resolution} px, " + _SMALL[rules.small_images])
    if side < rules.resolution and rules.small_images == "pad":
        square = _pad(square, rules.resolution)
    elif side != rules.resolution:
        square = square.resize((rules.resolution, rules.resolution), Image.Resampling.LANCZOS)
    return Decoded(square, found.was_grey, tuple(changes), found.peak)


def flatten(image: Image.Image, channels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture of any mode as L (1 channel) or RGB (3), of its own size, and what that changed.

    Raises:
        DamagedImage: its pixels have no known range.
    """
    found = _to_grey_or_rgb(image, [])
    changes = [*found.changes]
    return _in_mode(found.image, channels, changes), tuple(changes)


def decode_whole(stored: Stored, channels: int) -> Decoded:
    """The image with its own shape, as mode L (1 channel) or RGB (3), and what was done to it.

    Raises:
        DamagedImage: see `read`.
    """
    found = _read(stored)
    changes = [*found.changes]
    return Decoded(_in_mode(found.image, channels, changes), found.was_grey, tuple(changes), found.peak)


def takes_long(decodings: Iterable[Callable[[], object]]) -> bool:
    """Whether the first images take so long that threads decode them faster than a loop; damaged ones give None.

    Pillow decodes outside Python's lock, but opening an image holds it as long as decoding 32 x 32 pixels takes:
    threads that wait for it are then slower than a loop, sixteen of them half as fast.
    """
    seconds = []
    for decode_one in itertools.islice(decodings, _LOOKED_AT):
        started = time.perf_counter()
        if decode_one() is not None:
            seconds.append(time.perf_counter() - started)
        if len(seconds) == _TIMED:
            break
    # The first one loads Pillow's plugins.
    return not seconds or statistics.median(seconds) > _LONG


def _in_mode(image: Image.Image, channels: int, changes: list[str]) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        changes.append("grey, converted to RGB" if mode == "RGB" else "in colour, converted to grey")
    return image.convert(mode)


_SMALL = {"pad": "padded", "upscale": "enlarged"}


def _read(stored: Stored) -> Decoded:
    if stored is None:
        raise DamagedImage("there is no image")
    try:
        if isinstance(stored, np.ndarray):
            return _from_array(stored)
        if isinstance(stored, Image.Image):
            return _from_picture(stored)
        if stored["bytes"] is None and Path(stored["path"]).suffix.lower() == ".npy":
            return _from_array(np.load(stored["path"], allow_pickle=False))
        with Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"]) as image:
            return _from_picture(image)
    except DamagedImage:
        raise
    except UnidentifiedImageError as error:
        if _is_pointer(stored):
            raise DamagedImage("it is a pointer of Git LFS; run `git lfs pull`") from error
        raise DamagedImage("no image format that Pillow knows") from error
    except Exception as error:  # On damaged bytes Pillow's plugins raise almost anything.
        raise DamagedImage(str(error) or type(error).__name__) from error


def _from_picture(image: Image.Image) -> Decoded:
    _refuse_bomb(image)
    changes = ["of several frames, of which the first is used"] if getattr(image, "n_frames", 1) > 1 else []
    return _to_grey_or_rgb(ImageOps.exif_transpose(image), changes)


def _is_pointer(stored: Stored) -> bool:
    if not isinstance(stored, Mapping):
        return False
    start = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"]).read_bytes()
    return start[:40].startswith(b"version https://git-lfs")


def _refuse_bomb(image: Image.Image) -> None:
    # Pillow itself only warns up to twice its limit.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise DamagedImage(
            f"its {image.width} x {image.height} pixels exceed the limit of {Image.MAX_IMAGE_PIXELS} pixels"
        )


def _to_grey_or_rgb(image: Image.Image, changes: list[str]) -> Decoded:
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image), changes)
    if image.mode == "F":
        raise DamagedImage("its pixels are floating-point numbers of unknown range")
    if image.mode not in _LOSSLESS_MODES:
        changes.append(f"{image.mode}, converted to RGB")
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            changes.append("transparent, composited on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return Decoded(image.convert(mode), mode == "L", tuple(changes))


def _from_16_bit(pixels: np.ndarray, changes: list[str]) -> Decoded:
    # Pillow's own conversion clips at 255. Mode I is also what its older versions give for 16-bit PNG.
    wide = pixels.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise DamagedImage("its pixels are 32-bit integers of unknown range")
    image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    return Decoded(image, True, (*changes, "of 16 bits, scaled to 8"), int(wide.max()))


def _from_array(pixels: np.ndarray) -> Decoded:
    """An image of pixels (H, W), (H, W, C) or (C, H, W), C 1, 3 or 4."""
    changes: list[str] = []
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or not pixels.size:
        raise DamagedImage(f"an array of shape {pixels.shape} isn't an image")
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return _from_16_bit(pixels, changes)
    if pixels.dtype.kind not in "ui" or (pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 255)):
        raise DamagedImage(f"its pixels are {pixels.dtype}; give uint8, 0 to 255")
    return _to_grey_or_rgb(Image.fromarray(np.ascontiguousarray(pixels, np.uint8)), changes)


def _pad(square: Image.Image, resolution: int) -> Image.Image:
    """Centre on the median colour of the border; the pixels stay as they are."""
    pixels = np.asarray(square)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = tuple(int(level) for level in np.median(border.reshape(len(border), -1), axis=0))
    sheet = Image.new(square.mode, (resolution, resolution), colour if len(colour) > 1 else colour[0])
    sheet.paste(square, ((resolution - square.width) // 2,) * 2)
    return sheet
