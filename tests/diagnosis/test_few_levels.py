"""Rounded outputs, at every contrast, against outputs that are only of low contrast."""

from collections.abc import Callable

import pytest
from plants import found, smooth_images
from torch import Tensor

from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.few_levels import few_levels
from hfgen.images import to_float, to_uint8


@pytest.fixture(scope="module")
def originals() -> Tensor:
    """As photographs: most of the 256 levels are in each."""
    return smooth_images(24, seed=0)


def severity(originals: Tensor, change: Callable[[Tensor], Tensor]) -> str | None:
    made = to_uint8(change(to_float(originals)))
    return found(Context(images=originals, made=made), few_levels).get("few_levels")


def of_contrast(images: Tensor, contrast: float) -> Tensor:
    brightness = images.mean((1, 2, 3), keepdim=True)
    return brightness + contrast * (images - brightness)


@pytest.mark.parametrize("contrast", [1.0, 0.6, 0.3, 0.15])
def test_a_low_contrast_alone_is_no_rounding(contrast: float, originals: Tensor):
    assert severity(originals, lambda y: of_contrast(y, contrast)) is None


@pytest.mark.parametrize(("contrast", "steps"), [(1.0, 3), (1.0, 15), (0.5, 10), (0.3, 10)])
def test_rounding_is_found_at_every_contrast(contrast: float, steps: int, originals: Tensor):
    assert severity(originals, lambda y: (of_contrast(y, contrast) * steps).round() / steps) == "fault"
