"""The frame of every page: a template with the shared style, pictures inside; no request, no script."""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hfgen.reporting.charts import encode, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MACROS = "reporting/macros.html"
"""Pieces that several pages show, such as a chart with its caption: templates import them by this name."""


def fill(template: str, **values: Any) -> str:
    """The page of a template of the package, with the style that all of them share."""
    import jinja2

    names = (template, _MACROS, "reporting/page.css")
    page, macros, style = (files("hfgen").joinpath(name).read_text(encoding="utf-8") for name in names)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.DictLoader({_MACROS: macros}),
    )
    return environment.from_string(page).render(style=style, **values)


def both_themes(draw: Callable[[], Figure]) -> dict[str, str]:
    """What `draw` gives, as the sources of an image on a light and on a dark page."""
    sources = {}
    for page in ("light", "dark"):
        with theme(page):
            sources[page] = data_uri(encode(draw()))
    return sources


def data_uri(png: bytes) -> str:
    """The PNG file as the source of an image."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
