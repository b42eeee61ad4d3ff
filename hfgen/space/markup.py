"""HTML of the Space: pictures pixel by pixel with words beside them, tables, links."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from torch import Tensor

from hfgen.images import grid, to_pil
from hfgen.reporting.colours import Style

if TYPE_CHECKING:
    from PIL import Image

_MOST_NUMBER = 40
NBSP = "\N{NO-BREAK SPACE}"


def data_uri(image: Image.Image) -> str:
    """The picture itself as a link, lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def fitted(source: str, alt: str, side: int) -> str:
    """A square picture of this source, in pixels of one size, at most `side` wide."""
    return f'<img class="hf-pixels hf-fitted" style="--most:{side}px" src="{source}" alt="{escape(alt)}">'


def fitted_sheet(images: Tensor, columns: int, alt: str) -> str:
    """uint8 images (N, C, R, R) in a grid that fills its column with pixels of one size."""
    sheet = grid(images, columns, 1, 1)
    size = f'width="{sheet.width}" height="{sheet.height}" style="--side:{sheet.width}"'
    return f'<img class="hf-pixels hf-sheet" src="{data_uri(sheet)}" {size} alt="{escape(alt)}">'


def frames(images: Tensor, alt: str) -> str:
    """uint8 images (N, C, R, R) as a film, of which `interface.js` shows one in large, with all of them below."""
    large = "".join(
        f'<img class="hf-pixels" src="{source}" alt="{escape(f"{alt}: step {place} of {len(images)}")}">'
        for place, source in enumerate(pngs(images), 1)
    )
    side = images.shape[-1]
    film = f'<div class="hf-window hf-film" style="--side:{side}"><div class="hf-reel">{large}</div></div>'
    strip = f'<div class="hf-strip" style="--steps:{len(images)}">{fitted_sheet(images, len(images), alt)}</div>'
    return film + strip


def scrubber(steps: int) -> str:
    """The slider that moves all films at once."""
    return (
        '<label class="hf-scrub">From the first seed to the second '
        f'<input type="range" data-hf-scrub min="0" max="{steps - 1}" step="1" value="0"></label>'
    )


def named(content: str, name: str, style: Style, words: str) -> str:
    """What a model made, under its mark and name."""
    said = f"<span>{escape(words)}</span>" if words else ""
    caption = f"<figcaption>{style.swatch()} <b>{escape(name)}</b> {said}</figcaption>"
    return f'<figure class="hf-cell">{content}{caption}</figure>'


def columns(parts: Iterable[str]) -> str:
    """Figures in as many columns as the page has room for."""
    return f'<div class="hf-columns">{"".join(parts)}</div>'


def text(words: str) -> str:
    """Words within a piece of HTML."""
    return escape(words)


def figure(content: str, caption: str) -> str:
    """Content with its caption, which is text."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def chart(png: bytes, alt: str) -> str:
    """A chart, which scales with the page."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<img class="hf-chart" src="{source}" alt="{escape(alt)}">'


def key(looks: Mapping[str, Style]) -> str:
    """Which mark and colour is whose."""
    names = " ".join(f"<span>{style.swatch()} {escape(name)}</span>" for name, style in looks.items())
    return f'<span class="hf-key">{names}</span>'


def row(parts: Iterable[str]) -> str:
    """Figures side by side, as many as the page is wide."""
    return f'<div class="hf-row">{"".join(parts)}</div>'


def pair(left: str, right: str) -> str:
    """Two figures side by side, however narrow the page."""
    return f'<div class="hf-row hf-pair">{left}{right}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table of text whose first column names the rows."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + _cell('th scope="row"', first) + "".join(_cell("td", cell) for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return _scroll(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>", label)


def _cell(tag: str, text: str) -> str:
    """Sentences are broken into lines, numbers aren't."""
    words = ' class="hf-words"' if len(text) > _MOST_NUMBER else ""
    return f"<{tag}{words}>{escape(text)}</{tag.split()[0]}>"


def paragraphs(*texts: str) -> str:
    """Text, a paragraph each."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def bullets(texts: Iterable[str]) -> str:
    """Text, a bullet each."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def heading(text: str) -> str:
    """A heading within a view."""
    return f"<h2>{escape(text)}</h2>"


def link(view: str, **settings: Any) -> str:
    """The link that reopens a view as it is."""
    given = {name: int(value) if isinstance(value, bool) else value for name, value in settings.items()}
    query = urlencode({"view": view, **{name: value for name, value in given.items() if value is not None}})
    return f'<p><a href="?{escape(query)}">Link to this view</a></p>'


def details(summary: str, *parts: str) -> str:
    """Parts that are folded away under a line that opens them."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def cards(parts: Iterable[str]) -> str:
    """Cards side by side, as many as the page is wide."""
    return f'<div class="hf-cards">{"".join(parts)}</div>'


def view(*parts: str) -> str:
    """All parts of one view."""
    return f'<div class="hf-view">{"".join(parts)}</div>'


def share(value: float) -> str:
    """`43 %`, on one line; below 1 % with a digit more."""
    return f"{value:.1%}".replace("%", NBSP + "%") if 0 < value < 0.01 else f"{value:.0%}".replace("%", NBSP + "%")


def pngs(images: Tensor) -> list[str]:
    """Each of uint8 (N, C, R, R) at its own size, as a link."""
    return [data_uri(image) for image in to_pil(images)]


def _scroll(content: str, label: str) -> str:
    return f'<div class="hf-scroll" role="region" aria-label="{escape(label)}" tabindex="0">{content}</div>'
