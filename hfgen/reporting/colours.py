"""One colour and one mark a model, in the order in which models are given: in charts, in pages and in the Space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# The first four are Okabe & Ito's. Each has a contrast of 3 or more on white and on dark cards alike, and any two
# differ by a CIEDE2000 of 11 or more, to eyes without red, green or blue cones too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6090FC", "#906078")


class _Mark(NamedTuple):
    matplotlib: str
    plotly: str
    path: str


# One more than colours, so that the seventh model has another pair than the first. Paths: in a square of 16.
_MARKS = (
    _Mark("o", "circle", "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12z"),
    _Mark("s", "square", "M2.5 2.5h11v11h-11z"),
    _Mark("D", "diamond", "M8 1l7 7l-7 7l-7-7z"),
    _Mark("^", "triangle-up", "M8 1.5l7 12.5h-14z"),
    _Mark("v", "triangle-down", "M8 14.5l-7-12.5h14z"),
    _Mark("P", "cross", "M5.5 1.5h5v4h4v5h-4v4h-5v-4h-4v-5h4z"),
    _Mark(
        "X",
        "x",
        "M4.5 1l3.5 3.5l3.5-3.5l3.5 3.5l-3.5 3.5l3.5 3.5l-3.5 3.5l-3.5-3.5l-3.5 3.5l-3.5-3.5l3.5-3.5l-3.5-3.5z",
    ),
)


class Style(NamedTuple):
    """How a model is drawn.

    Attributes:
        colour: `#RRGGBB`, for light and dark pages.
        marker: Its mark as Matplotlib calls it.
        symbol: The same as Plotly calls it.
        path: The same as the `d` of an SVG path in a square of 16.
    """

    colour: str
    marker: str
    symbol: str
    path: str

    def swatch(self) -> str:
        """The mark as inline SVG, as high as a capital; a name stands beside it, so that no reader speaks of it."""
        return (
            '<svg class="mark" viewBox="0 0 16 16" width=".8em" height=".8em" aria-hidden="true">'
            f'<path fill="{self.colour}" d="{self.path}"/></svg>'
        )


def style(index: int) -> Style:
    """Of the `index`-th model; the first 42 differ."""
    return Style(_COLOURS[index % len(_COLOURS)], *_MARKS[index % len(_MARKS)])


def styles(models: Iterable[str]) -> dict[str, Style]:
    """Of each of the models, by its name."""
    return {name: style(index) for index, name in enumerate(models)}
