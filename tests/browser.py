"""Chromium, headless, and what axe-core finds in its pages. Without them, tests that import this are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hfgen.doctor import find_browser

CHROMIUM = find_browser()
if CHROMIUM is None:
    pytest.skip("not tested in a browser: `apt-get install chromium`", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="not tested in a browser: `pip install playwright`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`pip install axe-playwright-python`")

_SWITCHES = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without windows."""
    with sync_api.sync_playwright() as playwright:
        arguments = [f"--{switch}" for switch in _SWITCHES.split()]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Any) -> list[str]:
    """The serious and the critical ones of the page as it is shown, a line each."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def page_violations(file: Path) -> list[str]:
    """Of an HTML file with all of its details open: on a phone in the dark, and on a desk in the light."""
    found = []
    with chromium() as browser:
        for width, scheme in ((390, "dark"), (1280, "light")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(file.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{file.name} scrolls sideways at {width} pixels")
            found += violations(page)
    return found
