"""The spectra of the pictures shown, as inline SVG: drawn anew for every turn of a knob, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from hfgen.reporting.colours import Style
from hfgen.space import markup
from hfgen.space.markup import share

_WIDTH, _HEIGHT = 400, 215
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 40
_LEAST, _MOST = -3.0, 1.0
"""Of the vertical axis: powers of ten."""
_TICKS = {1: "10 x", 0: "as real", -1: "1/10", -2: "1/100", -3: "1/1000"}


class Line(NamedTuple):
    """A model's power over the original's, by frequency in cycles per pixel; `before`: without the knobs."""

    name: str
    style: Style
    frequencies: list[float]
    now: list[float]
    before: list[float]


def spectrum_chart(lines: Sequence[Line], caption: str) -> str:
    """Solid: now, with the model's mark; dotted: before."""
    words = "; ".join(f"{line.name} {_in_words(line.now)}" for line in lines)
    parts = [_axes()]
    for line in lines:
        if line.before != line.now:
            parts.append(_path(line.frequencies, line.before, line.style.colour, 'stroke-dasharray="2 4"'))
        parts.append(_path(line.frequencies, line.now, line.style.colour, ""))
        parts += [
            f'<path fill="{line.style.colour}" transform="translate({_x(f) - 5:.1f} {_y(v) - 5:.1f}) scale(.62)" '
            f'd="{line.style.path}"/>'
            for f, v in list(zip(line.frequencies, line.now, strict=True))[1::3]
        ]
    label = f"Power of each picture over the original's, from coarse to fine detail: {words}"
    key = markup.key({line.name: line.style for line in lines})
    return (
        f'<figure class="hf-spectrum"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg><figcaption>{key} {escape(caption)}</figcaption></figure>"
    )


def _axes() -> str:
    right = _WIDTH - _RIGHT
    parts = []
    for power, words in _TICKS.items():
        y = _y(10.0**power)
        parts.append(f'<path class="{"hf-real" if power == 0 else "hf-grid"}" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words}</text>')
    bottom = _HEIGHT - _BOTTOM + 16
    for anchor, x, words in (("start", _LEFT, "coarse"), ("end", right, "fine detail")):
        parts.append(f'<text x="{x}" y="{bottom}" text-anchor="{anchor}">{words}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 16}" text-anchor="middle">cycles per pixel, 0 to 0.5</text>')
    return "".join(parts)


def _path(frequencies: list[float], values: list[float], colour: str, more: str) -> str:
    points = "L".join(f"{_x(f):.1f} {_y(v):.1f}" for f, v in zip(frequencies, values, strict=True))
    return f'<path class="hf-line" stroke="{colour}" {more} d="M{points}"/>'


def _x(frequency: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * frequency / 0.5


def _y(value: float) -> float:
    """Values beyond the axis lie on its end."""
    power = math.log10(value) if value > 0 else _LEAST
    share = (min(max(power, _LEAST), _MOST) - _LEAST) / (_MOST - _LEAST)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _in_words(values: list[float]) -> str:
    return f"{share(values[0])} at the coarsest, {share(values[-1])} at the finest"
