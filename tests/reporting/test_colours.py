"""Models can be told apart: by colour with any colour vision, on light and dark pages, and by mark."""

from itertools import combinations

import numpy as np
import pytest

from hfgen.reporting.colours import style, styles

# What eyes without one kind of cones see, in linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    levels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    low, high = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) + 0.05 for one in (colour, other))
    return high / low


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_with_any_colour_vision(vision: str):
    from skimage.color import deltaE_ciede2000, rgb2lab

    def seen(colour: str) -> np.ndarray:
        light = np.clip(np.array(VISION[vision]) @ linear(colour), 0, 1)
        return rgb2lab(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))

    colours = [seen(style(index).colour) for index in range(6)]
    assert min(float(deltaE_ciede2000(*pair)) for pair in combinations(colours, 2)) > 11


@pytest.mark.parametrize("page", ["#ffffff", "#15161a", "#212329"])
def test_colours_stand_out_from_every_page(page: str):
    assert min(contrast(style(index).colour, page) for index in range(6)) >= 3


def test_42_models_have_42_pairs_in_the_order_given():
    found = styles(map(str, range(42)))
    assert len({one[:2] for one in found.values()}) == len({one[2:] + one[:1] for one in found.values()}) == 42
    assert found["7"] == style(7) and style(0).colour == "#0072B2"
