"""Rows of pictures, pixel by pixel: the strips of a report, and sheets of them as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen.images import grid
from hfgen.metrics import luma
from hfgen.reporting.pages import data_uri

if TYPE_CHECKING:
    from PIL import Image, ImageFont

MOST_IMAGES = 12
# Pixels in a row: a page of hundreds of rows of large images would have tens of megabytes.
_MOST_WIDE = 1024
GAP = 2
# Even in brightness and legible with any kind of colour vision.
_ERROR_COLOURS = "cividis"
_SHOWN_SIDE = 96
WHOLE, PIECE = 256, 128
"""The largest pictures of a page, and of what is shown beside them or folded away: larger ones are cut to so much."""

# Of a block, in pixels of a page: as much as a phone shows.
_BLOCK_WIDTH = 340
_SHEET_WIDTH = 800
_LABEL_HEIGHT = 26
_FONT_SIZE = 16


@dataclass(frozen=True)
class Strip:
    """One row of pictures: uint8 (N, C, R, R), N at most 12; `model`: whose they are, if a model's."""

    label: str
    images: Tensor
    model: str = ""


class Shown(NamedTuple):
    """A row of pictures on a page: its label with the model's mark, its file as `source`, its size there, its words."""

    mark: str
    label: str
    source: str
    width: int
    height: int
    alt: str


def error_levels(originals: Tensor, reconstructions: Tensor) -> Tensor:
    """Absolute errors of the luma in levels of 255: two uint8 (N, C, R, R) -> float64 (N, R, R)."""
    return 255 * (luma(originals) - luma(reconstructions)).abs()


def error_maps(levels: Tensor, highest: float) -> Tensor:
    """Errors (N, R, R) as colours, uint8 (N, 3, R, R): dark blue 0, yellow `highest` and above."""
    import matplotlib

    table = matplotlib.colormaps[_ERROR_COLOURS](np.arange(256), bytes=True)[:, :3]
    steps = (levels * (255 / max(highest, 1e-9))).round().clamp(0, 255).long()
    return torch.from_numpy(table.copy())[steps].permute(0, 3, 1, 2).contiguous()


def most_images(resolution: int) -> int:
    """How many images of this side a row of a page has: 12, fewer where they are large, 2 at least."""
    return max(2, min(MOST_IMAGES, _MOST_WIDE // resolution))


def zoom_for(resolution: int, side: int = _SHOWN_SIDE) -> int:
    """The whole number of screen pixels per pixel that brings an image's side nearest to 96."""
    return max(1, round(side / resolution))


def strip_picture(strip: Strip, columns: int = MOST_IMAGES) -> Image.Image:
    """The strip's first images in one row, each about 96 pixels wide."""
    images = strip.images[:columns]
    return grid(images, len(images), zoom_for(images.shape[-1]), GAP)


def blocks(
    rows: Sequence[Strip], marks: Mapping[str, str], side: int = _SHOWN_SIDE, most: int = PIECE
) -> list[list[Shown]]:
    """Rows whose pictures belong together, column by column, cut into blocks that a phone shows whole.

    Args:
        rows: Of equally large images; larger ones than `most` are cut as `close_up` says.
        marks: By model, HTML that goes before a label.
        side: About how many pixels wide an image is shown.
        most: See `rows`.
    """
    rows = close_up(rows, most)
    resolution = rows[0].images.shape[-1]
    zoom = zoom_for(resolution, side)
    gap = _gap(zoom) * zoom
    columns = max(1, (_BLOCK_WIDTH + gap) // (resolution * zoom + gap))
    count = max(len(row.images) for row in rows)
    return [
        [
            _shown(Strip(row.label, row.images[first : first + columns], row.model), marks, first, zoom)
            for row in rows
            if len(row.images) > first
        ]
        for first in range(0, count, columns)
    ]


def close_up(rows: Sequence[Strip], most: int) -> list[Strip]:
    """Of larger pictures `most` x `most` pixels: where those of the first two rows differ most, or the middle."""
    resolution = rows[0].images.shape[-1]
    if resolution <= most:
        return list(rows)
    first, *others = (row.images for row in rows)
    places = torch.full((max(map(len, (first, *others))), 2), (resolution - most) // 2)
    if others:
        count = min(len(first), len(others[0]))
        errors = (first[:count].float() - others[0][:count].float()).square().mean(1)
        step = most // 4
        places[:count] = corners(avg_pool2d(errors, most, step), step)
    return [Strip(row.label, cut(row.images, places.tolist(), most), row.model) for row in rows]


def cut_in_words(resolution: int, most: int, whole: str) -> str:
    """What `close_up` did to pictures of this side, and which file has them `whole`; empty where it did nothing."""
    if resolution <= most:
        return ""
    return (
        f" Of each picture, {resolution} x {resolution} pixels large, {most} x {most} are shown: where the first two "
        f"rows differ most. {whole} has them whole."
    )


def corners(scores: Tensor, step: int) -> Tensor:
    """Top and left, in pixels, of the piece with the highest of the scores (N, h, w), which are `step` pixels apart."""
    best = scores.flatten(1).argmax(1)
    return torch.stack([best // scores.shape[-1], best % scores.shape[-1]], 1) * step


def cut(images: Tensor, places: Sequence[Sequence[int]], side: int) -> Tensor:
    """The piece of so many pixels at each image's top and left: (N, C, R, R) -> (N, C, side, side)."""
    pairs = zip(images, places[: len(images)], strict=True)
    return torch.stack([image[:, top : top + side, left : left + side] for image, (top, left) in pairs])


def _gap(zoom: int) -> int:
    """Between pictures, in their own pixels."""
    return max(1, GAP // zoom)


def _shown(strip: Strip, marks: Mapping[str, str], first: int, zoom: int) -> Shown:
    """At its own size in the file, which the page enlarges."""
    count = len(strip.images)
    picture = grid(strip.images, count, 1, _gap(zoom))
    places = f"picture {first + 1}" if count == 1 else f"pictures {first + 1} to {first + count}"
    size = picture.width * zoom, picture.height * zoom
    return Shown(marks.get(strip.model, ""), strip.label, lossless(picture), *size, f"{strip.label}: {places}")


def sheet(rows: list[Strip], columns: int | None = None) -> Image.Image:
    """All strips under their labels; by default as many columns as 800 pixels hold."""
    from PIL import Image, ImageDraw

    resolution = rows[0].images.shape[-1]
    columns = columns or max(1, (_SHEET_WIDTH + GAP) // (resolution * zoom_for(resolution) + GAP))
    pictures = [strip_picture(row, columns) for row in rows]
    font = _font("".join(row.label for row in rows))
    widths = [picture.width for picture in pictures] + [round(font.getlength(row.label)) for row in rows]
    height = _LABEL_HEIGHT + pictures[0].height
    page = Image.new("RGB", (max(widths), height * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for index, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        draw.text((0, index * height + _LABEL_HEIGHT - 5), row.label, fill="black", font=font, anchor="ls")
        page.paste(picture, (0, index * height + _LABEL_HEIGHT))
    return page


def _font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, which has ASCII alone, or for other letters that of Matplotlib."""
    from PIL import ImageFont

    if text.isascii():
        return ImageFont.load_default(_FONT_SIZE)
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file; the same bytes whenever the same picture is encoded."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def lossless(picture: Image.Image) -> str:
    """The source of an image on a page: WebP without loss, or PNG, which is larger, where Pillow has no WebP."""
    from PIL import features

    if not features.check("webp"):
        return data_uri(png(picture))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True)
    return data_uri(buffer.getvalue(), "webp")
