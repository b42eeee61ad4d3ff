"""Compare, and the switch of decoders, in a real browser."""

from pathlib import Path

import test_space_browser as browser
from test_space_browser import FOCUSED, sync_api

# Of that file, with what they watch for.
chromium, visit = browser.chromium, browser.visit


def test_compare_on_a_phone(visit, loaded):
    """The table's first column stays, its models are sorted, its words open; a point opens its model's card."""
    page = visit("?view=compare", size="phone")
    points = page.locator("#hf-chart .points path")
    points.nth(1).wait_for()
    table = page.locator("table.columns")
    heads = table.locator("thead th")
    page.get_by_label("Sort the models by Recall", exact=True).press("Enter")
    page.get_by_label("Sort the models by Recall", exact=True).press("Enter")
    assert [heads.nth(place).inner_text().split()[0] for place in (2, 3, 4)] == ["gan", "vqvae", "vae"]
    before = heads.first.bounding_box()["x"], heads.last.bounding_box()["x"]
    page.get_by_role("region", name="Metrics of the models").evaluate("e => e.scrollBy(80, 0)")
    after = heads.first.bounding_box()["x"], heads.last.bounding_box()["x"]
    assert after == (before[0], before[1] - 80)
    meaning = table.locator("details.meaning", has=page.get_by_text("Recall", exact=True))
    assert "share of held-out images" in meaning.locator("summary").get_attribute("title")
    height = meaning.bounding_box()["height"]
    meaning.locator("summary").press("Enter")
    sync_api.expect(meaning).to_have_attribute("open", "")
    assert meaning.bounding_box()["height"] > height
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert "psnr,vae,20,19.99,20.01,20" in Path(download.value.path()).read_text().splitlines()
    cards = page.locator("details[data-hf-model]")
    assert [card.get_attribute("open") is not None for card in cards.all()] == [True, False, False]
    fills = points.evaluate_all("all => all.map(each => getComputedStyle(each).fill)")
    colours = [loaded.styles[name].colour for name in ("vae", "vqvae")]
    assert fills == [f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})" for colour in colours]
    points.nth(1).evaluate("e => e.scrollIntoView({block: 'center'})")
    box = points.nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    sync_api.expect(cards.nth(1)).to_have_attribute("open", "")
    assert [card.get_attribute("open") is not None for card in cards.all()] == [False, True, False]
    assert page.evaluate(FOCUSED).strip().startswith("vqvae")
    page.get_by_role("button", name="vae", exact=True).press("Enter")
    sync_api.expect(cards.first).to_have_attribute("open", "")
    assert page.evaluate(FOCUSED).strip().startswith("vae"), "a point's model is reached by keys too"
    page.get_by_label("Rate and distortion").check()
    page.get_by_text("No model here has both numbers").wait_for()


def test_switching_the_decoder_needs_no_request(chromium, with_twin):
    """The pictures of models with one encoder change places; by a click and by a key."""
    from hfgen.space.interface import _head
    from hfgen.space.knobs import Knobs
    from hfgen.space.side_by_side import reconstructions

    page = chromium.new_page(viewport={"width": 390, "height": 844})
    requests: list[str] = []
    page.on("request", lambda made: made.url.startswith("data:") or requests.append(made.url))
    page.set_content(f"<html><head>{_head()}</head><body>{reconstructions(with_twin, 0, Knobs()).page}</body></html>")
    by = "figure:has([data-hf-by='{}'])"
    cell = page.locator(by.format("vae"))
    copy, words = cell.locator(".hf-other img"), cell.get_by_text("through the decoder of")
    assert copy.count() == 0 and not words.is_visible()
    page.get_by_role("button", name="Other decoder").click()
    sync_api.expect(copy).to_be_visible()
    assert copy.get_attribute("src") == page.locator("[data-hf-by='twin']").get_attribute("src")
    assert copy.get_attribute("src") != page.locator("[data-hf-by='vae']").get_attribute("src")
    assert words.is_visible() and page.locator(f"{by.format('vqvae')} .hf-other").count() == 0
    page.locator("[data-hf-stage]").press("+")
    assert copy.evaluate("e => e.getBoundingClientRect().width / e.closest('.hf-window').clientWidth") == 2
    page.locator("[data-hf-stage]").press("p")
    sync_api.expect(copy).to_be_hidden()
    page.locator("[data-hf-stage]").press("d")
    sync_api.expect(copy).to_be_visible()
    assert requests == []
    page.close()
