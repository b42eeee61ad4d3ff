"""Does text survive an autoencoder? Lines of letters at known heights go through it, and are read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data.lines import HEIGHTS, Lines, draw_lines, lines_that_fit
from hfgen.errors import UserError
from hfgen.metrics import Collector
from hfgen.metrics.reader import reader
from hfgen.seeds import derive_seed

KEPT = 0.9
"""The share of the letters read in the originals that must be read in the reconstructions."""

_LETTERS, _PIXELS, _FEWEST, _MOST = 100, 3 * 2**18, 6, 256
_LINES, _PICTURES = "plain", "photographs"


def reading_test(
    reconstruct: Callable[[Tensor], Tensor],
    side: int,
    channels: int,
    *,
    photographs: Tensor | None = None,
    seed: int = 0,
    found: Collector,
) -> dict[str, Any]:
    """The record's `reading`; `reading_height` goes to `found`.

    Lines of random letters, dark on light, light on dark and, where there are such, on `photographs`, are drawn at
    letter heights of 4 to 48 pixels as far as they fit, and read in the drawn images and in what `reconstruct` makes
    of them. Images are few: 12 of 256 pixels.

    Args:
        reconstruct: uint8 (n, C, side, side) -> uint8, likewise.
        side: Of the images.
        channels: Of the images.
        photographs: uint8 (m, C, side, side), to write on.
        seed: Of letters, fonts, places and resampling.
        found: Takes the metric, and notes of what could not be read.

    Raises:
        UserError: images too small for the smallest letters.
    """
    heights = lines_that_fit(side, HEIGHTS)
    if not heights:
        raise UserError(f"reading: images of {side} px are too small for letters of {HEIGHTS[0]} px")
    count = max(_FEWEST, min(_MOST, _PIXELS // side**2))
    judge = reader()
    generator = torch.Generator().manual_seed(derive_seed("reading", seed))
    kinds = {_LINES: _plain(count if photographs is None else -(-2 * count // 3), side, channels)}
    if photographs is not None:
        chosen = photographs[: -(-count // 3)]
        kinds[_PICTURES] = chosen, [bool(image.float().mean() > 127.5) for image in chosen]
    right: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for kind, (backgrounds, dark) in kinds.items():
        lines = draw_lines(backgrounds, dark, heights, _LETTERS, generator)
        labels = torch.tensor([cell.label for cell in lines.cells])
        before, after = (judge.read(images, lines) == labels for images in (lines.images, reconstruct(lines.images)))
        right[kind] = torch.tensor([cell.height for cell in lines.cells]), before, after
        if kind == _LINES:
            inks = _inks(lines)
    of, before, after = (torch.cat(parts) for parts in zip(*right.values(), strict=True))
    curve = metrics.reading_curve(heights, of, before, after)
    unread = [point.height for point in curve if not point.is_read]
    if unread:
        found.note(f"reading: letters of {_listed(unread)} px aren't read in the originals either; they don't count")
    found.add("reading_height", lambda: metrics.reading_height(curve, of, before, after, KEPT, seed=seed))
    groups = {"dark_on_light": inks, "light_on_dark": ~inks}
    sets = {name: tuple(part[chosen] for part in right[_LINES]) for name, chosen in groups.items()}
    sets |= {_PICTURES: right[_PICTURES]} if _PICTURES in right else {}
    return {
        "heights": [point.height for point in curve],
        "letters": [point.letters for point in curve],
        "original": [point.original.as_dict() for point in curve],
        "reconstruction": [point.reconstruction.as_dict() for point in curve],
        "backgrounds": {
            name: [point.as_shares() for point in metrics.reading_curve(heights, *parts)]
            for name, parts in sets.items()
        },
        "unread": unread,
        "reader": judge.facts(),
    }


def _plain(count: int, side: int, channels: int) -> tuple[Tensor, list[bool]]:
    """White and black images in turn, and whether the ink is black."""
    dark = [index % 2 == 0 for index in range(count)]
    levels = torch.tensor([255 if is_dark else 0 for is_dark in dark], dtype=torch.uint8)
    return levels.view(-1, 1, 1, 1).repeat(1, channels, side, side), dark


def _inks(lines: Lines) -> Tensor:
    """Whether each letter is dark on light."""
    return torch.tensor([lines.dark[cell.image] for cell in lines.cells])


def _listed(heights: list[int]) -> str:
    return ", ".join(map(str, heights))
