"""The report in a real browser: on a phone and on a desk, by its script, and nothing is asked of anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, violations

OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true })"
TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"
# Whatever scrolls sideways is a table, whose first column stays.
SCROLLING = """[...document.querySelectorAll('main *')].filter(
    each => each.scrollWidth > each.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(each).overflowX)
).map(each => each.className + ' ' + each.firstElementChild.tagName + ' ' +
    getComputedStyle(each.querySelector('tbody tr > :first-child')).position)"""


@pytest.fixture(scope="module")
def visit(written: Path) -> Iterator[Any]:
    """Open the report in a window; nothing may have been complained of, or asked of a host."""
    complaints: list[str] = []
    with chromium() as browser:

        def visit(width: int, height: int, scheme: str) -> Any:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda made: made.url.startswith(("file:", "data:")) or complaints.append(made.url))
            page.goto((written / "report.html").as_uri())
            return page

        yield visit
    assert complaints == []


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(390, 844, "dark"), (820, 1180, "light"), (1280, 800, "light")]
)
def test_nothing_but_tables_scrolls_sideways(visit, width: int, height: int, scheme: str):
    page = visit(width, height, scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 22, 26)" if scheme == "dark" else "rgb(255, 255, 255)")
    # The answer, and what shows it, without scrolling.
    verdict, cards = (page.locator(part).bounding_box() for part in ("h1", ".cards"))
    assert verdict["y"] + verdict["height"] < height / 2 and cards["y"] < height
    assert page.evaluate(TOO_WIDE) <= 0
    page.evaluate(OPEN_ALL)
    assert page.evaluate(TOO_WIDE) <= 0
    assert set(page.evaluate(SCROLLING)) <= {"scroll TABLE sticky"}
    assert violations(page) == []
    natural = "[...document.querySelectorAll('.blocks .strip')].filter(each => each.clientWidth % each.naturalWidth)"
    assert page.evaluate(f"{natural}.length") == 0, "pictures aren't enlarged by a whole number"


def test_models_are_sorted_by_a_metric_and_differences_by_a_column(visit):
    page = visit(1280, 800, "light")
    page.evaluate(OPEN_ALL)
    table = page.locator("table.columns").first
    heads = table.locator("thead th")
    values = table.locator("tbody tr", has_text="PSNR (dB)").first.locator("td")
    before = [float(value) for value in values.evaluate_all("cells => cells.map(cell => cell.dataset.value ?? NaN)")]
    button = page.get_by_label("Sort the models by PSNR (dB)", exact=True).first
    button.focus()
    orders = []
    for _ in range(2):
        page.keyboard.press("Enter")
        orders.append([heads.nth(place).inner_text().split()[0] for place in range(2, 5)])
        shown = [float(value) for value in values.evaluate_all("cells => cells.map(cell => cell.dataset.value ?? NaN)")]
        assert sorted(shown[1:3]) == sorted(before[1:3]) and shown[3] != shown[3], "what has no PSNR comes last"
    first, second = (["vae", "other"] if before[1] < before[2] else ["other", "vae"]), ["gan"]
    assert orders == [first + second, first[::-1] + second]
    page.get_by_label("Sort by Difference").click()
    column = "rows => rows.map(row => Number(row.cells[2].dataset.value))"
    found = page.locator("table.sortable").first.locator("tbody tr").evaluate_all(column)
    assert found == sorted(found) and len(found) > 3


def test_the_lens_shows_one_place_in_all_rows_pixel_by_pixel(visit):
    page = visit(390, 844, "light")
    strip = page.locator(".blocks .strip").first
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 20)
    lens = page.locator(".lens")
    assert lens.is_visible() and lens.locator("figcaption").all_inner_texts() == [
        "real, held out",
        "vae: reconstructions",
        "other: reconstructions",
    ]
    looks = "each => [getComputedStyle(each).imageRendering, each.style.backgroundPosition]"
    glasses = [lens.locator("div").nth(place).evaluate(looks) for place in range(3)]
    assert glasses == [["pixelated", "-34px -4px"]] * 3
    frame = lens.bounding_box()
    assert frame["x"] >= 0 and frame["x"] + frame["width"] <= 390
    page.mouse.move(5, box["y"] - 10)
    assert lens.is_hidden()


def test_the_lens_by_keys_alone(visit):
    page = visit(1280, 800, "light")
    block = page.locator(".blocks .block").first
    block.scroll_into_view_if_needed()
    block.focus()
    lens, glass = page.locator(".lens"), page.locator(".lens div").nth(1)
    assert lens.is_hidden() and "Arrows move" in block.get_attribute("aria-label")
    looks = "each => `${each.style.backgroundPosition} ${each.style.backgroundSize}`.split(' ').map(parseFloat)"
    places = []
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown", "+", "-"):
        page.keyboard.press(key)
        assert lens.is_visible()
        places.append(glass.evaluate(looks))
    width, height = places[0][2:]
    # A sixteenth of the height, on the enlarged picture.
    assert places[0][0] - places[1][0] == pytest.approx(height / 16, abs=0.1) and places[0][1] == places[1][1]
    assert places[1][1] - places[2][1] == pytest.approx(height / 16, abs=0.1)
    assert places[3][2:] == [2 * width, 2 * height] and places[4] == places[2]
    page.keyboard.press("Escape")
    assert lens.is_hidden()


def test_what_is_hard_to_read_or_has_no_name_is_found(visit):
    page = visit(1280, 800, "light")
    page.evaluate("document.querySelector('h1').style.color = '#ccc'")
    page.evaluate("document.querySelector('.strip').removeAttribute('alt')")
    found = violations(page)
    assert [line.partition(":")[0] for line in found] == ["color-contrast", "image-alt"]
