"""The pictures side by side, which `interface.js` zooms, moves and compares at once; each is sent once, lossless."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from torch import Tensor

from hfgen.images import to_pil
from hfgen.reporting.colours import Style
from hfgen.space import markup

_HELP = "Pictures side by side. Plus and minus zoom all of them, arrows move, 0 resets, {keys} choose what is shown."
_MODES = {"picture": ("Picture", "p"), "error": ("Error", "e"), "edge": ("Before | after", "b")}
_MOST_COLUMNS = 4
_SWITCH = {"decoder": ("Other decoder", "d")}


def _toolbar(shown: Mapping[str, tuple[str, str]]) -> str:
    """What is shown, and the zoom: the browser's work alone."""
    modes = "".join(
        f'<button type="button" data-hf-mode="{mode}" aria-pressed="{str(mode == "picture").lower()}" '
        f'title="key {key.upper()}">{label}</button>'
        for mode, (label, key) in shown.items()
    )
    zooms = "".join(
        f'<button type="button" data-hf-zoom="{by}" aria-label="{label}" title="key {key}">{key}</button>'
        for by, label, key in (("0.5", "zoom out", "-"), ("2", "zoom in", "+"), ("0", "whole picture", "0"))
    )
    return (
        f'<div class="hf-toolbar" role="toolbar" aria-label="pictures"><span class="hf-choice">{modes}</span>'
        f'<span class="hf-choice">{zooms}<output class="hf-zoom" aria-label="zoom">1 x</output></span></div>'
    )


def stage(cells: Sequence[str], absent: Sequence[str], legend: str, switched: str = "") -> str:
    """All cells, as one thing that takes keys, and what the error's colours mean; below them those without a picture.

    `switched`: what is seen when the cells' `other`s are; empty where there is none.
    """
    shown = _MODES | (_SWITCH if switched else {})
    keys = ", ".join(key.upper() for _, key in shown.values())
    columns = len(cells) if len(cells) <= _MOST_COLUMNS else min(_MOST_COLUMNS, math.ceil(len(cells) / 2))
    return (
        f'<div class="hf-lens"><div class="hf-stage" data-hf-stage style="--columns:{columns}" tabindex="0" '
        f'role="group" aria-label="{_HELP.format(keys=keys)}">{"".join([*cells, *absent])}</div>{_toolbar(shown)}'
        f'<p class="hf-legend">{escape(legend)}</p>'
        + (f'<p class="hf-switched" aria-live="polite">{escape(switched)}</p>' if switched else "")
        + "</div>"
    )


def original(image: Tensor) -> str:
    """The original, uint8 (1, C, R, R), whose source the other cells' edge takes."""
    picture = _layer(image, "the original", "hf-original")
    return _window(image, _plane(picture), _caption("Original"))


def cell(
    name: str, style: Style, image: Tensor, error: Tensor, words: Sequence[str], other: tuple[str, Style] | None = None
) -> str:
    """A model's picture uint8 (1, C, R, R), its error map over it, and (by `interface.js`) the original up to the edge.

    `other`: a model with the same encoder, whose picture, made of the same latent, can be shown in this one's place.
    """
    layers = _layer(image, f"{name}'s reconstruction", "hf-picture", name)
    layers += _layer(error, f"{name}'s error", "hf-error")
    copies = '<div class="hf-before" aria-hidden="true"><div class="hf-plane"></div></div>'
    caption = _caption(name, style, words)
    if other is not None:
        copies += f'<div class="hf-other" data-hf-of="{escape(other[0])}"><div class="hf-plane"></div></div>'
        through = f'<span class="hf-through">through the decoder of {other[1].swatch()} {escape(other[0])}</span>'
        caption = caption.replace("</figcaption>", f"{through}</figcaption>")
    return _window(image, _plane(layers) + copies, caption)


def absent(name: str, style: Style, why: str) -> str:
    """What stands in the place of a model that has no picture."""
    return f'<figure class="hf-cell hf-absent">{_caption(name, style)}<p>{escape(why)}</p></figure>'


def _window(image: Tensor, content: str, caption: str) -> str:
    side = image.shape[-1]
    return f'<figure class="hf-cell"><div class="hf-window" style="--side:{side}">{content}</div>{caption}</figure>'


def _plane(content: str) -> str:
    return f'<div class="hf-plane">{content}</div><i class="hf-cross" aria-hidden="true"></i>'


def _layer(image: Tensor, alt: str, kind: str, by: str = "") -> str:
    (picture,) = to_pil(image)
    size = f'width="{picture.width}" height="{picture.height}"' + (f' data-hf-by="{escape(by)}"' if by else "")
    return (
        f'<img class="hf-pixels {kind}" src="{markup.data_uri(picture)}" {size} alt="{escape(alt)}" draggable="false">'
    )


def _caption(name: str, style: Style | None = None, words: Sequence[str] = ()) -> str:
    mark = "" if style is None else style.swatch() + " "
    said = "".join(f"<span>{escape(part)}</span>" for part in words)
    return f"<figcaption>{mark}<b>{escape(name)}</b> {said}</figcaption>"
