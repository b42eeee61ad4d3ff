from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfgen.data import CLASSES, FONTS, Glyphs, draw
from hfgen.errors import UserError


@pytest.fixture(scope="module")
def train() -> Glyphs:
    return draw("glyphs", "train", 0, 4000, 32)


def test_images_are_white_ink_on_black_within_the_frame(train: Glyphs) -> None:
    assert train.images.shape == (4000, 1, 32, 32)
    assert train.images.dtype == torch.uint8
    assert (train.images.amax((1, 2, 3)) > 200).float().mean() > 0.98
    assert train.images.float().mean() < 80
    _, size, x, y, _ = train.factors[:, 0].T
    assert np.all((size >= 0.6) & (size <= 0.9))
    for centre in (x, y):
        assert np.all((centre > 0) & (centre < 1))


def test_all_classes_and_fonts_are_drawn_about_equally_often(train: Glyphs) -> None:
    for count in (torch.bincount(train.labels), np.bincount(train.factors[:, 0, 0].astype(int))):
        expected = 4000 / len(count)
        assert abs(count - expected).max() < 5 * expected**0.5
    assert len(torch.bincount(train.labels)) == len(CLASSES)
    assert train.factors[:, 0, 0].max() == len(FONTS) - 1


@settings(max_examples=15, deadline=None)
@given(start=st.integers(0, 300), count=st.integers(1, 20))
def test_an_image_does_not_depend_on_the_chunk(start: int, count: int, train: Glyphs) -> None:
    part = draw("glyphs", "train", start, count, 32)
    assert torch.equal(part.images, train.images[start : start + count])
    assert torch.equal(part.labels, train.labels[start : start + count])
    assert np.array_equal(part.factors, train.factors[start : start + count])


def test_another_process_draws_the_same_images(train: Glyphs) -> None:
    code = (
        "import hashlib; from hfgen.data import draw; "
        "print(hashlib.sha256(draw('glyphs', 'train', 7, 20, 32).images.numpy().tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == hashlib.sha256(train.images[7:27].numpy().tobytes()).hexdigest()


def test_the_splits_share_no_image(train: Glyphs) -> None:
    test = draw("glyphs", "test", 0, 2000, 32)
    assert not {image.numpy().tobytes() for image in train.images} & {image.numpy().tobytes() for image in test.images}


def test_another_resolution_shows_the_same_scene() -> None:
    small, large = draw("glyphs", "train", 0, 50, 16), draw("glyphs", "train", 0, 50, 64)
    assert np.array_equal(small.factors, large.factors)
    reduced = torch.nn.functional.avg_pool2d(large.images.float(), 4)
    assert (reduced - small.images).abs().mean() < 4


def test_edges_are_as_sharp_as_pixels_allow(train: Glyphs) -> None:
    """A sharp edge at a random place leaves one pixel in grey, 8 times in 10 between 10 and 90 %."""
    images = train.images.float() / 255
    assert _grey_per_edge(images) < 0.8
    slight_blur = torch.tensor([[[[1.0, 6, 1], [6, 36, 6], [1, 6, 1]]]]) / 64
    assert _grey_per_edge(torch.nn.functional.conv2d(images, slight_blur, padding=1)) > 0.8


def _grey_per_edge(images: torch.Tensor) -> float:
    grey = ((images > 0.1) & (images < 0.9)).sum()
    return float(grey / (images.diff(dim=2).abs().sum() + images.diff(dim=3).abs().sum()))


def test_the_factors_are_what_is_drawn() -> None:
    drawn = draw("glyphs", "train", 0, 200, 64)
    for image, (_, size, x, y, tilt) in zip(drawn.images[:, 0], drawn.factors[:, 0], strict=True):
        rows, columns = (np.flatnonzero(image.numpy().max(axis)) for axis in (1, 0))
        assert abs((rows[0] + rows[-1] + 1) / 128 - y) < 0.15
        assert abs((columns[0] + columns[-1] + 1) / 128 - x) < 0.15
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.6 * size < longer / 64 < size + 0.05
        assert -15 <= tilt <= 15


def test_tilt_is_counter_clockwise() -> None:
    """The stem of a sans-serif I leans to the left when it is turned counter-clockwise."""
    drawn = draw("glyphs", "train", 0, 6000, 32)
    upright = np.isin(drawn.factors[:, 0, 0], [FONTS.index("DejaVuSans"), FONTS.index("cmss10")])
    stems = (drawn.labels.numpy() == CLASSES.index("I")) & upright & (abs(drawn.factors[:, 0, 4]) > 4)
    assert stems.sum() > 3
    columns = np.arange(32)
    for image, tilt in zip(drawn.images[stems, 0].numpy(), drawn.factors[stems, 0, 4], strict=True):
        rows = np.flatnonzero(image.max(1) > 128)
        top, bottom = (np.average(columns, weights=image[row]) for row in (rows[1], rows[-2]))
        assert np.sign(bottom - top) == np.sign(tilt)


def test_the_classes_are_legible(train: Glyphs) -> None:
    """Nearest class mean of the cropped and rescaled letter: far above chance (1/36)."""
    letters = torch.stack([_normalised(image) for image in train.images])
    fitted, held = slice(0, 3000), slice(3000, 4000)
    means = torch.stack([letters[fitted][train.labels[fitted] == kind].mean(0) for kind in range(36)])
    guess = torch.cdist(letters[held], means).argmin(1)
    assert (guess == train.labels[held]).float().mean() > 0.6


def _normalised(image: torch.Tensor) -> torch.Tensor:
    rows, columns = (torch.nonzero(image[0].amax(axis) > 64)[:, 0] for axis in (1, 0))
    letter = image[None, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float()
    return torch.nn.functional.interpolate(letter, (16, 16), mode="bilinear").flatten()


def test_stacked_labels_are_the_digits_in_red_green_and_blue(train: Glyphs) -> None:
    stacked = draw("stacked", "train", 0, 500, 32)
    assert stacked.images.shape == (500, 3, 32, 32)
    assert len(stacked.labels.unique()) > 350
    letters = torch.stack([_normalised(image) for image in train.images])
    means = torch.stack([letters[train.labels == digit].mean(0) for digit in range(10)])
    for channel, place in enumerate((100, 10, 1)):
        digits = torch.stack([_normalised(image[None]) for image in stacked.images[:, channel]])
        guess = torch.cdist(digits, means).argmin(1)
        assert (guess == stacked.labels // place % 10).float().mean() > 0.6


@pytest.mark.parametrize("resolution", [8, 17, 300])
def test_any_resolution_from_8_is_drawn(resolution: int) -> None:
    drawn = draw("glyphs", "test", 0, 3, resolution)
    assert drawn.images.shape == (3, 1, resolution, resolution)
    assert (drawn.images.amax((1, 2, 3)) > 100).all()


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"^resolution: 7 is too small to draw a letter; use 8 or more$"):
        draw("glyphs", "train", 0, 1, 7)
    with pytest.raises(UserError, match=r"^split: glyphs has no split 'val'; it has train, test$"):
        draw("glyphs", "val", 0, 1, 8)
