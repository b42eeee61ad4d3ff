"""The Space in a real browser: every tab at phone and desktop width, pixel by pixel, by keyboard, by link."""

from __future__ import annotations

import base64
import io
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hfgen.data import draw
from hfgen.images import grid

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("the Space is not tested in a browser: `apt-get install chromium`", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="not tested in a browser: `pip install playwright`")
gradio_client = pytest.importorskip("gradio_client")

SWITCHES = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
SCREENSHOTS = Path(__file__).parents[2] / "runs" / "screenshots"
TABS = {"Reconstruct": "reconstruct", "Generate": "generate", "Why blurry?": "why", "Compare": "compare"}
MODELS = ("vae", "vqvae", "gan")
PIXELS = "img.hf-pixels:visible"
FOCUSED = "(e => e === document.body ? '' : e.ariaLabel || e.textContent)(document.activeElement)"
# A phone has several screen pixels to each of CSS: neither may be smoothed.
SIZES = {"phone": (390, 844, 2), "desktop": (1280, 900, 1)}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{switch}" for switch in SWITCHES.split()]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, server) -> Iterator[Callable[..., Any]]:
    """Open a page. When the test ends, nothing may have been complained of, or asked of another host."""
    contexts, complaints = [], []

    def requested(request: Any) -> None:
        if not request.url.startswith((f"{server.url}/", "data:", "blob:")):
            complaints.append(f"request: {request.url}")

    def said(message: Any) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def visit(query: str = "", size: str = "desktop", scheme: str = "light") -> Any:
        width, height, scale = SIZES[size]
        contexts.append(
            chromium.new_context(
                viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=scheme
            )
        )
        contexts[-1].on("request", requested)
        contexts[-1].on("console", said)
        contexts[-1].on("weberror", lambda error: complaints.append(str(error.error)))
        contexts[-1].set_default_timeout(120_000)
        page = contexts[-1].new_page()
        page.goto(f"{server.url}/{query}")
        page.get_by_text("Link to this view").locator("visible=true").first.wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def decode(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))))


def shown(page: Any, alt: str) -> np.ndarray:
    """The picture's own pixels, after a look at what the screen makes of them."""
    image = page.locator(f"{PIXELS}[alt='{alt}']")
    pixels = decode(image.get_attribute("src"))
    image.evaluate("e => e.scrollIntoView({block: 'center'})")
    zoom = page.evaluate("devicePixelRatio")
    expected = pixels.repeat(zoom, 0).repeat(zoom, 1)
    for _ in range(100):
        box = image.bounding_box()
        assert (box["height"], box["width"]) == pixels.shape, "not at its own size"
        left, top = (math.floor(box[side] + 0.5) * zoom for side in ("x", "y"))
        screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        if (screen[top : top + len(expected), left : left + expected.shape[1]] == expected).all():
            return pixels
        page.wait_for_timeout(100)  # Gradio fades new content in.
    raise AssertionError("the screen shows other pixels")


def enlarged(image: Any) -> np.ndarray:
    """An image of 16 px as the page enlarges it."""
    return np.asarray(image).repeat(12, 0).repeat(12, 1)


def fitting(page: Any) -> None:
    """Nothing is cut off at the page's side, and all pictures have words."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert all(image.get_attribute("alt") for image in page.locator(".hf-view img:visible").all())


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("phone", "dark"),
        ("desktop", "light"),
        pytest.param("phone", "light", marks=pytest.mark.slow),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
    ],
)
def test_every_tab(visit, size: str, scheme: str):
    page = visit(size=size, scheme=scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    expected = {"Reconstruct": "PSNR (dB)", "Generate": "vae: seed 0", "Why blurry?": "averaging identity"}
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.get_by_text(expected.get(name, "Which one is real?")).first.wait_for()
        if name == "Compare":
            page.get_by_text("averaging_identity").first.wait_for()
        fitting(page)
        page.screenshot(path=SCREENSHOTS / f"{TABS[name]}-{size}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("size", SIZES)
def test_reconstruct_pixel_by_pixel(visit, server, tmp_path: Path, size: str):
    client = gradio_client.Client(server.url, verbose=False)
    page = visit(size=size)
    glyph = draw("glyphs", "test", 0, 3, 16).images[:, 0].numpy()
    # The slider lays half of the original over the reconstruction: lift it for a look at the latter.
    for cut, part in ((0, "{}'s reconstruction"), (100, "original, beside which {}'s reconstruction is laid")):
        page.evaluate(f"document.querySelectorAll('.hf-slider').forEach(e => e.style.setProperty('--cut', '{cut}%'))")
        _, values = client.predict(None, 0, False, True, 0, 0, api_name="/reconstruct")
        for one in values["models"]:
            pixels = shown(page, part.format(one["model"]).replace("'", "\\'"))
            assert (pixels == enlarged(decode(one["original" if cut else "reconstruction"]))).all()
            assert not cut or (pixels == enlarged(glyph[0])).all()
    Image.fromarray(255 - glyph[2]).save(tmp_path / "mine.png")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    own = page.locator(f"{PIXELS}[alt^='original, beside which vae']")
    same = base64.b64encode(_png(enlarged(255 - glyph[2]))).decode()
    sync_api.expect(own).to_have_attribute("src", f"data:image/png;base64,{same}")


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_generate_pixel_by_pixel_and_by_link(visit, loaded, size: str):
    import torch

    from hfgen.images import unit_to_uint8

    page = visit(size=size)
    page.get_by_role("tab", name="Generate").click()
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_text("vae: seed 7, prior fitted").wait_for()
    found = {}
    for name in MODELS:
        found[name] = shown(page, f"16 samples of {name}, seed 7")
        images = loaded.models[name].pipeline(16, torch.Generator().manual_seed(7), "pt").images
        expected = np.asarray(grid(unit_to_uint8(images), 4, 4)).astype(int)
        # Another number of threads may round one of 255 levels otherwise.
        assert np.abs(found[name] - expected).max() <= 1
    link = page.get_by_text("Link to this view").locator("visible=true").get_attribute("href")
    again = visit(link, size=size)
    again.get_by_text("vae: seed 7, prior fitted").wait_for()
    assert again.get_by_role("tab", name="Generate").get_attribute("aria-selected") == "true"
    assert again.get_by_label("Seed", exact=True).input_value() == "7"
    assert all((shown(again, f"16 samples of {name}, seed 7") == found[name]).all() for name in MODELS)


def test_by_keyboard_alone(visit):
    page = visit(size="phone")
    focused: list[str] = []

    def tab_to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused.append(page.evaluate(FOCUSED))
            if wanted in focused[-1]:
                return
        raise AssertionError(f"{wanted} can't be reached by Tab, but only {focused}")

    tab_to("original is shown over vae's")
    page.keyboard.press("ArrowRight")
    assert page.locator(".hf-slider").first.evaluate("e => e.style.getPropertyValue('--cut')") == "51%"
    tab_to("the reconstructions in numbers")
    tab_to("Compare")
    page.keyboard.press("Enter")
    tab_to("Show a pair")
    page.keyboard.press("Enter")
    left, right = (page.get_by_alt_text(f"the {side} image") for side in ("left", "right"))
    left.wait_for()
    assert left.bounding_box()["y"] == right.bounding_box()["y"], "they are called left and right"
    tab_to("Answer")
    page.keyboard.press("Enter")
    score = page.get_by_label("Score of this session")
    sync_api.expect(score).to_have_value(re.compile(r"(Yes|No): .* of 1;"))
