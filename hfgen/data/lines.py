"""Lines of random letters, drawn on pictures at known heights and places: what a reading test reads.

The letters are those of `glyphs`. A line's letters stand in cells of equal width, so that each can be cut out again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hfgen.data.glyphs import CLASSES, font_face

HEIGHTS = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48)
"""Of capitals, in pixels."""

FONTS = (0, 4, 8)
"""Plain sans, monospaced and serif: indices in those of `glyphs`."""

_SAMPLES = 4
# In letter heights: a cell's width, a line's height, and how far below its top the letters end.
_CELL, _LINE, _BASE = 1.3, 1.6, 1.3
_MARGIN = 1
_PIXELS = 2**22


class Cell(NamedTuple):
    """Where a letter stands: `image` and the cell's `left`, `top` and `side` in pixels; its `height` and `label`."""

    image: int
    left: float
    top: float
    side: float
    height: int
    label: int


@dataclass(frozen=True)
class Lines:
    """`images` uint8 (N, C, R, R), and the `cells` of all their letters. `dark`: whether the ink of each is black."""

    images: Tensor
    cells: list[Cell]
    dark: list[bool]


def lines_that_fit(side: int, heights: Iterable[int]) -> list[int]:
    """Those of the letter heights of which a line of at least one letter fits an image of this side."""
    return [height for height in heights if height * _LINE + 2 * _MARGIN <= side]


def draw_lines(
    backgrounds: Tensor, dark: list[bool], heights: list[int], letters: int, generator: torch.Generator
) -> Lines:
    """Draw lines of random letters on uint8 images (N, C, R, R), each image in black or in white ink.

    A line has the height that has the fewest letters so far, of those that still fit, so that all come to about as
    many. Images are used in order, until each height has `letters`.
    """
    side = backgrounds.shape[-1]
    images, cells = backgrounds.clone(), list[Cell]()
    counts = dict.fromkeys(heights, 0)
    used = 0
    for image in range(len(backgrounds)):
        if min(counts.values()) >= letters:
            break
        ink, top, used = np.zeros((side, side), np.float32), float(_MARGIN), image + 1
        while fitting := [height for height in heights if top + height * _LINE <= side - _MARGIN]:
            height = min(fitting, key=lambda height: (counts[height], -height))
            drawn = _line(height, top, side, image, generator)
            for cell, mask in drawn:
                _paste(ink, mask, cell)
            cells += [cell for cell, _ in drawn]
            counts[height] += len(drawn)
            top += height * _LINE
        share = torch.from_numpy(ink / 255)
        colour = 0.0 if dark[image] else 255.0
        mixed = images[image].float() * (1 - share) + colour * share
        images[image] = mixed.round().to(torch.uint8)
    return Lines(images[:used], cells, dark[:used])


def _line(
    height: int, top: float, side: int, image: int, generator: torch.Generator
) -> list[tuple[Cell, tuple[np.ndarray, int, int]]]:
    """Its cells, and of each letter the ink with its place."""
    font = FONTS[int(torch.randint(len(FONTS), (), generator=generator))]
    count = max(1, int((side - 2 * _MARGIN) / (height * _CELL)))
    labels = torch.randint(len(CLASSES), (count,), generator=generator).tolist()
    # A fraction of a pixel, so that letters meet the pixels' raster anywhere.
    shift = float(torch.rand((), generator=generator))
    cells = []
    for index, label in enumerate(labels):
        left = _MARGIN + index * height * _CELL + min(shift, side - 2 * _MARGIN - count * height * _CELL)
        box = height * _LINE
        middle = left + height * _CELL / 2
        cells.append(
            (Cell(image, middle - box / 2, top, box, height, label), _letter(font, label, height, middle, top))
        )
    return cells


def _letter(font: int, label: int, height: int, middle: float, top: float) -> tuple[np.ndarray, int, int]:
    """Its ink (h, w) in [0, 255], box-filtered, and the pixel of its upper left corner."""
    left, upper = math.floor(middle - height), math.floor(top)
    size = int(2 * height) + 2, int(height * _LINE) + 2
    canvas = Image.new("L", (size[0] * _SAMPLES, size[1] * _SAMPLES))
    place = (middle - left) * _SAMPLES, (top + height * _BASE - upper) * _SAMPLES
    face = font_face(font, _em(font, height))
    ImageDraw.Draw(canvas).text(place, CLASSES[label], fill=255, font=face, anchor="ms")
    return np.asarray(canvas.reduce(_SAMPLES)), left, upper


@lru_cache(maxsize=64)
def _em(font: int, height: int) -> int:
    """The font's size at which a capital is so many pixels high, of the fine raster."""
    _, top, _, bottom = font_face(font, 1000).getbbox("H")
    return round(height * _SAMPLES * 1000 / (bottom - top))


def _paste(ink: np.ndarray, drawn: tuple[np.ndarray, int, int], cell: Cell) -> None:
    mask, left, top = drawn
    x, y = max(left, 0), max(top, 0)
    target = ink[y : top + mask.shape[0], x : left + mask.shape[1]]
    source = mask[y - top :, x - left :][: target.shape[0], : target.shape[1]]
    np.maximum(target, source, out=target)


def cut_out(images: Tensor, lines: Lines, side: int) -> Tensor:
    """The letters' cells of uint8 images like those of `lines`: float32 (L, 1, side, side), white ink on black.

    Bilinear, averaged where pixels are smaller; each with mean 0 and deviation 1, whatever the contrast.
    """
    grey = images.float().mean(1, keepdim=True)
    grey = grey * torch.tensor([-1.0 if dark else 1.0 for dark in lines.dark]).view(-1, 1, 1, 1)
    found = torch.empty(len(lines.cells), 1, side, side)
    by_height: dict[int, list[int]] = {}
    for index, cell in enumerate(lines.cells):
        by_height.setdefault(cell.height, []).append(index)
    for indices in by_height.values():
        cells = [lines.cells[index] for index in indices]
        found[indices] = _resampled(grey, cells, side)
    found -= found.mean((1, 2, 3), keepdim=True)
    return found / found.std((1, 2, 3), keepdim=True).clamp_min(1e-3)


def _resampled(grey: Tensor, cells: list[Cell], side: int) -> Tensor:
    """Cells of one size."""
    resolution = grey.shape[-1]
    # So many points a side that none of the pixels is missed.
    finer = max(1, -(-int(cells[0].side) // side))
    steps = (torch.arange(side * finer) + 0.5) / (side * finer)
    parts = []
    most = max(1, _PIXELS // resolution**2)
    for chunk in [cells[first : first + most] for first in range(0, len(cells), most)]:
        boxes = torch.tensor([(cell.left, cell.top, cell.side) for cell in chunk])
        x, y = (boxes[:, axis, None] + boxes[:, 2:] * steps for axis in (0, 1))
        places = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1) * (2 / resolution) - 1
        sources = grey[[cell.image for cell in chunk]]
        points = torch.nn.functional.grid_sample(sources, places, padding_mode="border", align_corners=False)
        parts.append(torch.nn.functional.avg_pool2d(points, finer))
    return torch.cat(parts)
