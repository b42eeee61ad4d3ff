"""What all pages share: legible colours, charts that are part of the page, pictures in blocks that a phone shows."""

import re
from importlib.resources import files
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure

from hfgen.reporting.charts import inline, new_axes
from hfgen.reporting.pictures import Strip, blocks, close_up, cut_in_words

CSS = files("hfgen").joinpath("reporting/page.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """Relative, as the Web Content Accessibility Guidelines define it."""
    short = colour.lstrip("#")
    digits = short if len(short) == 6 else "".join(2 * digit for digit in short)
    levels = (int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4))
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_on_the_page_and_on_cards(scheme: str):
    light, dark = re.findall(r":root \{([^}]*)\}", CSS)
    colours = dict(re.findall(r"--(\w+): (#\w+);", light if scheme == "light" else dark))
    assert contrast("#000", "#fff") == pytest.approx(21) and colours.keys() >= {"text", "quiet", "page", "card"}
    for text in ("text", "quiet", "accent", "good", "wrong"):
        for paper in ("page", "card"):
            assert contrast(colours[text], colours[paper]) >= 4.5, (text, paper)


def draw(name: str) -> Figure:
    figure, (axes,) = new_axes(1)
    axes.plot([0, 1], [0, 1], "o-", color="#0072B2", label=name)
    axes.legend()
    return figure


def test_a_chart_is_text_and_takes_the_pages_colours():
    name = "<b>a & b</b> $x^$"
    svg = inline(lambda: draw(name), "one", 'A "line" <up>')
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'A "line" <up>'
    assert name in [element.text for element in root.iter("text")]
    assert "var(--text)" in svg and "var(--page)" in svg and "#0072b2" in svg
    assert not re.search("#010203|#fdfcfb|http|<style|<script|xlink", svg)
    inside = set(re.findall(r' id="([^"]*)"', svg))
    assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)) and all(
        (one or other) in inside for one, other in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
    )
    assert inside.isdisjoint(re.findall(r' id="([^"]*)"', inline(lambda: draw("x"), "two", "again")))


@pytest.mark.parametrize(("side", "columns"), [(8, 3), (32, 3), (64, 2), (256, 2)])
def test_blocks_are_no_wider_than_a_phone_and_hold_all_images(side: int, columns: int):
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 1, side, side)
    made = blocks([Strip("real", images), Strip("vae: made", images, "vae")], {"vae": "<i>"})
    assert len(made) == -(-7 // columns) and all(row.width <= 340 for block in made for row in block)
    assert [(row.label, row.mark) for row in made[0]] == [("real", ""), ("vae: made", "<i>")]
    assert made[-1][1].alt == ("vae: made: picture 7")
    assert made[0][0].width == made[0][1].width


def test_of_large_pictures_the_part_that_differs_most_is_shown_alike_in_all_rows():
    images = torch.randint(0, 256, (3, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = images.clone()
    corners = [(0, 0), (128, 64), (96, 128)]
    for image, (top, left) in zip(made, corners, strict=True):
        image[:, top : top + 128, left : left + 128] ^= 64
    rows = close_up([Strip("real", images), Strip("made", made, "vae"), Strip("same", images[:2])], 128)
    assert [(row.label, row.model, len(row.images)) for row in rows] == [
        ("real", "", 3),
        ("made", "vae", 3),
        ("same", "", 2),
    ]
    for place, (top, left) in enumerate(corners):
        part = slice(top, top + 128), slice(left, left + 128)
        assert torch.equal(rows[0].images[place], images[place][:, *part])
        assert torch.equal(rows[1].images[place], made[place][:, *part])
    (alone,) = close_up([Strip("samples", images)], 128)
    assert torch.equal(alone.images, images[:, :, 64:192, 64:192]), "the middle, where there is nothing to differ from"
    assert close_up(rows, 128)[0].images is rows[0].images
    assert cut_in_words(128, 128, "grid.png") == "" and "256 x 256 pixels large" in cut_in_words(256, 128, "grid.png")
