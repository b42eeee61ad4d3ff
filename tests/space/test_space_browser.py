"""The Space in a real browser: every tab at phone and desktop width, pixel by pixel, by keyboard, by link."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium as open_chromium
from browser import sync_api, violations
from PIL import Image

from hfgen.data import draw
from hfgen.images import grid

gradio_client = pytest.importorskip("gradio_client")

SCREENSHOTS = Path(__file__).parents[2] / "runs" / "screenshots"
TABS = {
    "Reconstruct": "reconstruct",
    "Generate": "generate",
    "Why blurry?": "why",
    "Compare": "compare",
    "Game": "game",
}
MODELS = ("vae", "vqvae", "gan")
PIXELS = "img.hf-pixels:visible"
FOCUSED = (
    "(e => e === document.body ? '' : e.ariaLabel || e.closest('label')?.textContent || e.textContent)"
    "(document.activeElement)"
)
# A phone has several screen pixels to each of CSS: neither may be smoothed.
SIZES = {"phone": (390, 844, 2), "tablet": (820, 1180, 1), "desktop": (1280, 900, 1)}

EACH_SIZE = pytest.mark.parametrize("size", ["phone", pytest.param("tablet", marks=pytest.mark.slow), "desktop"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


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
    """The picture's own pixels, after a look at what the screen makes of them: each a square of one colour."""
    image = page.locator(f"{PIXELS}[alt='{alt}']")
    pixels = decode(image.get_attribute("src"))
    image.evaluate("e => e.scrollIntoView({block: 'center'})")
    zoom = page.evaluate("devicePixelRatio")
    for _ in range(100):
        box = image.bounding_box()
        side = box["width"] / pixels.shape[1]
        assert side == int(side) == box["height"] / pixels.shape[0], "its pixels aren't all of one size"
        expected = pixels.repeat(int(side * zoom), 0).repeat(int(side * zoom), 1)
        left, top = (math.floor(box[side] + 0.5) * zoom for side in ("x", "y"))
        screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        if (screen[top : top + len(expected), left : left + expected.shape[1]] == expected).all():
            return pixels
        page.wait_for_timeout(100)  # Gradio fades new content in.
    raise AssertionError("the screen shows other pixels")


def fitting(page: Any, size: str) -> None:
    """Nothing is cut off at the page's side in any size, of which `size` comes last, and all pictures have words."""
    for width, height, _ in (*SIZES.values(), SIZES[size]):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    assert all(image.get_attribute("alt") for image in page.locator(".hf-view img:visible").all())


def lasting_violations(page: Any) -> list[str]:
    """Without those of new content, which is pale while Gradio fades it in."""
    for _ in range(30):
        if not (found := violations(page)):
            break
        page.wait_for_timeout(200)
    return found


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("phone", "dark"),
        ("desktop", "light"),
        pytest.param("phone", "light", marks=pytest.mark.slow),
        pytest.param("tablet", "light", marks=pytest.mark.slow),
        pytest.param("tablet", "dark", marks=pytest.mark.slow),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
    ],
)
def test_every_tab(visit, size: str, scheme: str):
    page = visit(size=size, scheme=scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    expected = {
        "Reconstruct": "fine detail",
        "Generate": "seed 0",
        "Why blurry?": "Model by model",
        "Game": "Samples of",
    }
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.get_by_text(expected.get(name, "20 held-out images")).first.wait_for()
        if name == "Compare":
            page.locator("#hf-chart .js-plotly-plot .points path").first.wait_for()
        fitting(page, size)
        levels = page.locator("h1:visible, h2:visible, h3:visible").evaluate_all("all => all.map(e => +e.tagName[1])")
        assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert lasting_violations(page) == []
        page.screenshot(path=SCREENSHOTS / f"{TABS[name]}-{size}-{scheme}.png", full_page=True)


@EACH_SIZE
def test_reconstruct_pixel_by_pixel(visit, server, tmp_path: Path, size: str):
    client = gradio_client.Client(server.url, verbose=False)
    page = visit(size=size)
    glyph = draw("glyphs", "test", 0, 3, 16).images[:, 0].numpy()
    _, values = client.predict(None, 0, 100, 0, False, False, True, 0, api_name="/reconstruct")
    assert (shown(page, "the original") == glyph[0]).all()
    for one in values["models"]:
        name = f"{one['model']}\\'s reconstruction"
        assert (shown(page, name) == decode(one["reconstruction"])).all()
    Image.fromarray(255 - glyph[2]).save(tmp_path / "mine.png")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    same = base64.b64encode(_png(255 - glyph[2])).decode()
    sync_api.expect(page.get_by_alt_text("the original")).to_have_attribute("src", f"data:image/png;base64,{same}")
    page.get_by_label("example 1", exact=True).check(force=True)
    other = base64.b64encode(_png(glyph[1])).decode()
    sync_api.expect(page.get_by_alt_text("the original")).to_have_attribute("src", f"data:image/png;base64,{other}")


def scale_and_corner(page: Any) -> list[list[float]]:
    """How every picture of the stage is enlarged and moved, in shares of its window."""
    return page.evaluate(
        """[...document.querySelectorAll('[data-hf-stage] .hf-window > .hf-plane')].map(plane => {
            const frame = plane.parentElement.getBoundingClientRect(), box = plane.getBoundingClientRect();
            return [box.width / frame.width, (frame.x - box.x) / frame.width, (frame.y - box.y) / frame.height]
                .map(value => +value.toFixed(3));
        })"""
    )


def test_one_lens_over_all_pictures(visit):
    """By keys, wheel and dragging; without a request."""
    page = visit()
    stage = page.locator("[data-hf-stage]")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    stage.press("+")
    assert scale_and_corner(page) == [[2, 0.5, 0.5]] * 3
    stage.press("ArrowRight")
    assert scale_and_corner(page) == [[2, 0.625, 0.5]] * 3
    frame = page.locator(".hf-window").nth(1).bounding_box()
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + frame["width"] / 4, middle[1], steps=3)
    page.mouse.up()
    assert scale_and_corner(page) == [[2, 0.375, 0.5]] * 3
    stage.press("0")
    assert scale_and_corner(page) == [[1, 0, 0]] * 3
    page.mouse.dblclick(frame["x"] + 1, frame["y"] + 1)
    assert [round(value, 1) for value in scale_and_corner(page)[2]] == [2, 0, 0]
    page.mouse.wheel(0, 10_000)
    assert scale_and_corner(page) == [[1, 0, 0]] * 3, "the wheel zooms what is zoomed, and no further than the whole"
    # The error, and the original up to an edge that keys and the mouse move.
    page.keyboard.press("e")
    error = page.get_by_alt_text("vae's error", exact=True)
    sync_api.expect(error).to_be_visible()
    stage.press("b")
    sync_api.expect(error).to_be_hidden()
    assert page.locator(".hf-before img").count() == 2
    page.mouse.move(frame["x"] + frame["width"] / 4, middle[1])
    edges = "[...document.querySelectorAll('.hf-before')].map(e => getComputedStyle(e).clipPath.split(' ')[1])"
    assert page.evaluate(edges) == ["75%"] * 2
    stage.press("ArrowRight")
    assert page.evaluate(edges) == ["70%"] * 2
    # New pictures are seen in the same way.
    stage.press("+")
    page.get_by_label("example 2", exact=True).check(force=True)
    sync_api.expect(page.get_by_label("zoom", exact=True)).to_have_text("2 x")
    assert not [url for url in requests if "gradio_api" not in url]
    assert len(requests) < 10


def test_two_fingers_zoom_and_one_moves(chromium, server):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{server.url}/")
    page.locator("[data-hf-stage]").scroll_into_view_if_needed()
    frame = page.locator(".hf-window").first.bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    touch = context.new_cdp_session(page)

    def fingers(kind: str, *places: float) -> None:
        points = [{"x": x + place, "y": y, "id": number} for number, place in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", -20, 20)
    fingers("touchMove", -40, 40)
    fingers("touchEnd")
    zoomed = scale_and_corner(page)
    assert zoomed[0][0] == pytest.approx(2, abs=0.1) and zoomed == [zoomed[0]] * 3
    fingers("touchStart", 0)
    fingers("touchMove", frame["width"] / 4)
    fingers("touchEnd")
    moved = scale_and_corner(page)
    assert moved[0][1] - zoomed[0][1] == pytest.approx(-0.25, abs=0.05) and moved == [moved[0]] * 3
    context.close()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@EACH_SIZE
def test_generate_pixel_by_pixel_and_by_link(visit, loaded, size: str):
    import torch

    from hfgen.images import unit_to_uint8

    page = visit(size=size)
    page.get_by_role("tab", name="Generate").click()
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_text("seed 7, prior fitted").wait_for()
    page.get_by_label("number input for Class; -1: drawn").fill("2")
    page.get_by_text("seed 7, class 2").wait_for()
    found = {}
    for name in MODELS:
        found[name] = shown(page, f"16 samples of {name}, seed 7")
        options = {"class_labels": 2} if name == "gan" else {}
        images = loaded.models[name].pipeline(16, torch.Generator().manual_seed(7), "pt", **options).images
        expected = np.asarray(grid(unit_to_uint8(images), 4, 1, 1)).astype(int)
        # Another number of threads may round one of 255 levels otherwise.
        assert np.abs(found[name] - expected).max() <= 1
    link = page.get_by_text("Link to this view").locator("visible=true").get_attribute("href")
    again = visit(link, size=size)
    again.get_by_text("seed 7, class 2").wait_for()
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

    tab_to("example 0")
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.get_by_label("example 1", exact=True)).to_be_checked()
    tab_to("range slider for Keep")
    page.keyboard.press("ArrowLeft")
    page.get_by_text("99\N{NO-BREAK SPACE}% of the latent kept").wait_for()
    tab_to("Pictures side by side")
    page.keyboard.press("+")
    assert scale_and_corner(page)[0][0] == 2
    tab_to("The numbers")
    page.keyboard.press("Enter")
    tab_to("the reconstructions in numbers")
    tab_to("Generate")
    page.keyboard.press("Enter")
    tab_to("Interpolate to the second seed")
    page.keyboard.press("Enter")
    page.locator("[data-hf-scrub]").wait_for()
    tab_to("From the first seed to the second")
    page.keyboard.press("ArrowRight")
    moved = "e => new DOMMatrix(getComputedStyle(e).transform).e / e.clientWidth"
    assert [reel.evaluate(moved) for reel in page.locator(".hf-reel").all()] == [-1] * 3, (
        "all films show their second image"
    )
    tab_to("Why blurry?")
    page.keyboard.press("Enter")
    tab_to("What sharpness costs in variety")
    page.keyboard.press("Enter")
    page.locator("details[open] > summary", has_text="What sharpness costs").wait_for()
    tab_to("Compare")
    page.keyboard.press("Enter")
    tab_to("Download as CSV")
    tab_to("Game")
    page.keyboard.press("Enter")
    tab_to("Begin")
    page.keyboard.press("Enter")
    left, right = (page.get_by_alt_text(f"the {side} image") for side in ("left", "right"))
    left.wait_for()
    assert left.bounding_box()["y"] == right.bounding_box()["y"], "they are called left and right"
    tab_to("The left one")
    page.keyboard.press("Enter")
    page.get_by_text("Round 2 of 10").wait_for()
    left.click()
    page.get_by_text("Round 3 of 10").wait_for()
