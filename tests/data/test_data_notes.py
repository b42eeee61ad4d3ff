"""What is converted is said, once an opening, and kept with the store."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pictures import GREY, RED, picture, write_pictures
from PIL import Image

from hfgen.data import open_store


def test_grey_images_before_colour_ones_leave_the_colour(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", 200, GREY)
    write_pictures(tmp_path / "b", 2, RED)
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert store.channels == 3
    assert "200 of 202 images: grey, converted to RGB" in store.notes
    grey = open_store(str(tmp_path), split="all", resolution=8, channels=1)
    assert grey.channels == 1 and "2 of 202 images: in colour, converted to grey" in grey.notes
    assert not [note for note in open_store(str(tmp_path / "a"), split="all", resolution=8).notes if "grey" in note]


@pytest.mark.parametrize(("bits", "said"), [(8, True), (12, True), (14, True), (16, False)])
def test_dark_images_of_16_bits_are_said(bits: int, said: bool, tmp_path: Path) -> None:
    for index in range(4):
        levels = np.random.default_rng(index).integers(0, 2**bits, (8, 8)).astype(np.uint16)
        levels[0, 0] = 2**bits - 1
        Image.fromarray(levels).save(tmp_path / f"{index}.png")
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert "all 4 images: of 16 bits, scaled to 8" in store.notes
    line = f"the images of 16 bits reach level {2**bits - 1} of 65535 only, {bits} bits: they come out dark; "
    assert (f"{line}save them multiplied by {2 ** (16 - bits)}" in store.notes) == said


def test_each_conversion_is_counted(tmp_path: Path) -> None:
    picture().save(tmp_path / "plain.png")
    picture().convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.new("RGBA", (8, 8), (200, 40, 40, 9)).save(tmp_path / "transparent.png")
    Image.new("RGBA", (8, 8), (200, 40, 40, 255)).save(tmp_path / "opaque.png")
    picture().resize((16, 8)).save(tmp_path / "wide.png")
    picture().resize((4, 4)).save(tmp_path / "small.png")
    frames = [picture(seed=seed).quantize(8) for seed in range(2)]
    frames[0].save(tmp_path / "frames.gif", save_all=True, append_images=frames[1:])
    store = open_store(str(tmp_path), split="all", resolution=8, small_images="pad")
    assert store.notes == [
        f"1 of 7 images: {change}"
        for change in (
            "CMYK, converted to RGB",
            "of several frames, of which the first is used",
            "smaller than 8 px, padded",
            "transparent, composited on white",
            "cropped to the centre square",
        )
    ]


def test_notes_come_back_from_the_cache_and_are_said_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path, 20)
    for path in sorted(tmp_path.iterdir())[:10]:
        path.write_text("no image")
    stores = []
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "hfgen"):
            stores.append(open_store(str(tmp_path), resolution=8, skip_damaged=True))
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [f"{tmp_path}: {note}" for note in stores[-1].notes]
        caplog.clear()
    assert stores[0].notes == stores[1].notes
    assert stores[0].notes[0] == "it isn't divided: 2 of its 20 images, chosen by a fixed seed, are held out as test"
    assert stores[0].notes[-1] == f"damaged images left out of train: {stores[0].skipped}"


def test_a_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    import os

    picture(seed=1).save(tmp_path / "a.bmp")
    before = open_store(str(tmp_path), split="all", resolution=8)
    stat = (tmp_path / "a.bmp").stat()
    picture(seed=2).save(tmp_path / "a.bmp")
    os.utime(tmp_path / "a.bmp", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (tmp_path / "a.bmp").stat().st_size == stat.st_size
    assert open_store(str(tmp_path), split="all", resolution=8).fingerprint != before.fingerprint
