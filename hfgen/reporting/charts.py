"""What all charts share: themes, the models' colours and marks, axes, encoding. Drawn with Matplotlib."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hfgen.reporting.colours import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of `page`, two colours that nothing else has: they become the page's own, light or dark.
_PAPER = {"light": "#ffffff", "dark": "#15161a", "page": "#fdfcfb"}
_INK = {"light": "#1b1b1f", "dark": "#ececf1", "page": "#010203"}
# Labels that nobody gave.
_AUTOMATIC = re.compile(r"_(child|container)\d+|_nolegend_")


@contextmanager
def theme(name: str) -> Iterator[None]:
    """Draw for a `light` page, a `dark` one, or for `inline`."""
    import matplotlib

    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK[name])
    paper = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), _PAPER[name])
    # A name may hold dollars; no chart has formulae.
    with matplotlib.rc_context({**ink, **paper, "text.parse_math": False}):
        yield


def encode(figure: Figure, kind: str = "png", salt: str = "hfgen") -> bytes:
    """`png` or `svg`; the same bytes whenever the same figure is encoded. The names inside an SVG follow the `salt`."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def inline(draw: Callable[[], Figure], name: str, alt: str) -> str:
    """What `draw` gives, as an SVG element of a page: its text is text, its ink and paper are the page's.

    `name`: no other chart of the page has it.
    """
    import matplotlib

    with theme("page"), matplotlib.rc_context({"svg.fonttype": "none"}):
        text = encode(draw(), "svg", salt=name).decode()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r"\s*\n\s*", " ", re.sub(r"font-family: [^;]*; ?", "", text))
    for colour, variable in ((_INK["page"], "--text"), (_PAPER["page"], "--page")):
        text = re.sub(rf'(style="[^"]*?){colour}', rf"\1var({variable})", text)
        text = re.sub(rf'(style="[^"]*?){colour}', rf"\1var({variable})", text)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None, "Matplotlib writes one"
    opening = f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" {box.group()}>'
    return re.sub(r"^<svg[^>]*>", lambda _: opening, text)


def palette(index: int) -> tuple[str, str]:
    """Colour and marker of the `index`-th thing in a chart."""
    return style(index)[:2]


def model_style(models: Iterable[str], model: str) -> tuple[str, str]:
    """The colour and marker of one of the models, the same in every chart."""
    return palette(list(models).index(model))


def ink() -> Any:
    """The theme's colour of text and lines."""
    import matplotlib

    return matplotlib.rcParams["text.color"]


def new_axes(count: int, width: float = 3.6, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure of `count` charts side by side, each so many inches large."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(count * width, height), layout="constrained")
    row = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, row


def legend(figure: Figure) -> None:
    """Of the first axes, above all of them: in as many columns, up to three, as the longest label leaves room for."""
    axes = figure.axes[0]
    drawn: list[Any] = [*axes.lines, *axes.containers]
    for artist in drawn:
        # Matplotlib leaves out what begins so; a model may be called so.
        if artist.get_label().startswith("_") and not _AUTOMATIC.fullmatch(artist.get_label()):
            artist.set_label(f"\N{ZERO WIDTH SPACE}{artist.get_label()}")
    _, labels = axes.get_legend_handles_labels()
    # Inches of a letter of this size, and of what stands before it: the sample of a line, with gaps.
    column = 0.08 * max(map(len, labels), default=0) + 0.55
    columns = max(1, min(3, int(figure.get_figwidth() / column)))
    figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
