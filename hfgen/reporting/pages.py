"""The frame of every page: one file with the shared style and script, pictures and charts inside; no request."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any


def fill(template: str, **values: Any) -> str:
    """The page of a template of the package, which extends `reporting/page.html`."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )
    style, script = ("".join(_read(f"reporting/{name}.{kind}") for name in ("page", "table")) for kind in ("css", "js"))
    return environment.get_template(template).render(style=style, script=script, **values)


def table_assets() -> tuple[str, str]:
    """Style sheet and script of the metrics' table, for a page with a frame of its own."""
    return _read("reporting/table.css"), _read("reporting/table.js")


def _read(name: str) -> str:
    return files("hfgen").joinpath(name).read_text(encoding="utf-8")


def data_uri(content: bytes, kind: str = "png") -> str:
    """The file as the source of an image."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
