"""`glyphs` and `stacked`: digits and capitals drawn on demand with the fonts that Matplotlib ships.

The edges are as sharp as the pixels allow, and class, font, size, place and tilt are known: sharpness and
modes have a ground truth. `stacked` holds a digit in each RGB channel, 1000 modes in all, as Stacked MNIST
does (Metz et al. 2017, "Unrolled Generative Adversarial Networks").
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hfgen.data_options import BUILT_IN
from hfgen.errors import UserError
from hfgen.seeds import derive_seed

CLASSES = BUILT_IN["glyphs"].characters
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmti10",
    "cmss10",
    "cmtt10",
)
SPLIT_SIZES = {"train": 30_000, "test": 5_000}
FACTORS = ("font", "size", "x", "y", "tilt")
SMALLEST = 8

VERSION = 2
"""Changes whenever the same index gives other pixels."""

_SIZES = (0.6, 0.9)
_MAX_SHIFT = 0.06
_MAX_TILT = 10.0
_EM = 512


@dataclass(frozen=True)
class Glyphs:
    """Drawn images with their known causes.

    Attributes:
        images: uint8 (N, C, R, R), white ink on black; C is 1 for `glyphs`, 3 for `stacked`.
        labels: int64 (N,): the index in `CLASSES`, or 100 * red + 10 * green + blue for `stacked`.
        factors: float64 (N, C, 5), by `FACTORS`: index in `FONTS`; longer side of the tilted letter's box;
            the box's centre from the left and from the top (these three as shares of the frame); tilt in
            degrees, counter-clockwise.
    """

    images: Tensor
    labels: Tensor
    factors: np.ndarray


def draw(name: str, split: str, start: int, count: int, resolution: int) -> Glyphs:
    """Images `start` to `start + count` of a split of `glyphs` or `stacked`.

    Image i depends on (name, split, i) alone; at another resolution it is the same scene. The stream is
    endless: `SPLIT_SIZES` is only how much of it counts as the dataset.

    Raises:
        UserError: an unknown split, or a resolution below `SMALLEST`.
    """
    if split not in SPLIT_SIZES:
        raise UserError(f"split: {name} has no split {split!r}; it has {', '.join(SPLIT_SIZES)}")
    if resolution < SMALLEST:
        raise UserError(f"resolution: {resolution} is too small to draw a letter; use {SMALLEST} or more")
    channels, classes = BUILT_IN[name].channels, len(BUILT_IN[name].characters)
    images = np.empty((count, channels, resolution, resolution), np.uint8)
    factors = np.empty((count, channels, len(FACTORS)))
    labels = np.zeros(count, np.int64)
    seed = derive_seed(name, split)
    for row in range(count):
        for channel, uniform in enumerate(_uniforms(seed, start + row, channels)):
            kind = int(uniform[0] * classes)
            labels[row] = labels[row] * classes + kind
            images[row, channel], factors[row, channel] = _scene(kind, uniform[1:], resolution)
    return Glyphs(torch.from_numpy(images), torch.from_numpy(labels), factors)


def glyph_unknowns(split: str, start: int, count: int) -> np.ndarray:
    """What glyphs `start` to `start + count` of a split are drawn from: (count, 6) in [0, 1), uniform.

    Class and font, as shares of their number, then size, x, y and tilt within what the frame allows; see `render`.
    """
    seed = derive_seed("glyphs", split)
    return np.stack([_uniforms(seed, start + row, 1)[0] for row in range(count)])


def render(unknowns: np.ndarray, resolution: int) -> Tensor:
    """The glyphs of `glyph_unknowns` (N, 6), uint8 (N, 1, R, R): those of `draw`, for any numbers in [0, 1)."""
    kinds = (unknowns[:, 0] * len(CLASSES)).astype(int)
    rows = [_scene(kind, uniform[1:], resolution)[0] for kind, uniform in zip(kinds, unknowns, strict=True)]
    return torch.from_numpy(np.stack(rows))[:, None]


def _uniforms(seed: int, index: int, channels: int) -> np.ndarray:
    """Image `index`'s random numbers in [0, 1): (channels, 1 + factors).

    From the raw bits of PCG64: NumPy promises those for ever, and not the streams of its distributions.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,)))
    shape = (channels, 1 + len(FACTORS))
    return (bits.random_raw(math.prod(shape)) >> np.uint64(11)).reshape(shape) * 2.0**-53


def _scene(kind: int, uniform: np.ndarray, resolution: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """Draw one letter, wholly inside the frame, and say where: (pixels (R, R), factors)."""
    font = int(uniform[0] * len(FONTS))
    size = _SIZES[0] + (_SIZES[1] - _SIZES[0]) * uniform[1]
    tilt = _MAX_TILT * (2 * uniform[4] - 1)
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    # Every pixel is the mean of samples x samples points: a box filter, the sharpest without stair-steps.
    samples = max(2, min(8, 512 // resolution))
    frame = samples * resolution
    mask = _mask(font, kind, max(_EM, frame))
    box = mask.width * cos + mask.height * abs(sin), mask.width * abs(sin) + mask.height * cos
    zoom = size * frame / max(box)
    # Near the centre, as far off it as leaves the letter whole.
    reach = [min(_MAX_SHIFT * frame, (frame - zoom * side) / 2) for side in box]
    x, y = (frame / 2 + (2 * u - 1) * most for most, u in zip(reach, uniform[2:4], strict=True))
    a, b = cos / zoom, sin / zoom
    # Pillow maps a point of the frame to a point of the mask: the inverse of the placement.
    inverse = (a, -b, mask.width / 2 - a * x + b * y, b, a, mask.height / 2 - b * x - a * y)
    fine = mask.transform((frame, frame), Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST)
    return np.asarray(fine.reduce(samples)), (font, size, x / frame, y / frame, tilt)


@lru_cache(maxsize=len(FONTS) * len(CLASSES))
def _mask(font: int, kind: int, em: int) -> Image.Image:
    """One letter's ink (mode L), cropped to it, at `em` pixels an em."""
    face = font_face(font, em)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(CLASSES[kind]))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), CLASSES[kind], fill=255, font=face)
    return mask.crop(mask.getbbox())


@lru_cache(maxsize=4 * len(FONTS))
def font_face(font: int, em: int) -> ImageFont.FreeTypeFont:
    """One of `FONTS` at `em` pixels an em.

    Raises:
        UserError: Matplotlib or its fonts aren't there.
    """
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise UserError("data: glyphs are drawn with Matplotlib's fonts; run `pip install matplotlib`")
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{FONTS[font]}.ttf"
    try:
        # The basic layout: Raqm, where it is present, could place the letters otherwise.
        return ImageFont.truetype(str(path), em, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise UserError(f"data: Matplotlib's font {path} can't be read ({error}); reinstall matplotlib") from None
