from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hfgen.data import open_store
from hfgen.data.decode import _LONG, DamagedImage, Rules, decode, decode_and_tell, read, takes_long
from hfgen.errors import UserError


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_of_the_resolution_keeps_its_pixels(channels: int) -> None:
    image = noise(16, 16, channels)
    decoded = decode(stored(image), "x", Rules(16, channels, "refuse"))
    assert decoded.mode == image.mode
    assert np.array_equal(np.asarray(decoded), np.asarray(image))


def test_the_square_is_cut_from_the_centre() -> None:
    image = noise(24, 16)
    decoded = decode(stored(image), "x", Rules(16, 3, "refuse"))
    assert np.array_equal(np.asarray(decoded), np.asarray(image)[:, 4:20])


def test_reducing_is_antialiased() -> None:
    """One-pixel stripes become their mean; without antialiasing they would become black or white."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    decoded = np.asarray(decode(stored(Image.fromarray(stripes)), "x", Rules(8, 1, "refuse")))
    assert np.all(abs(decoded[:, 1:-1].astype(int) - 127) <= 2)


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0))])
def test_the_exif_orientation_of_a_jpeg_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(read(stored(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)))
    quadrants = upright.reshape(2, 8, 2, 8).mean((1, 3))
    assert np.unravel_index(quadrants.argmax(), (2, 2)) == corner


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    ink = {"RGBA": (255, 0, 0), "LA": (100,)}[mode]
    image = Image.new(mode, (12, 12), (*ink, 255))
    image.paste((*ink, 0), (0, 0, 4, 12))
    image.paste((*ink, 51), (4, 0, 8, 12))
    row = np.asarray(read(stored(image)))[0]
    expected = {"RGBA": [(255, 255, 255), (255, 204, 204), (255, 0, 0)], "LA": [255, 224, 100]}[mode]
    assert row[[0, 5, 11]].tolist() == [list(c) if isinstance(c, tuple) else c for c in expected]


def test_a_palette_becomes_its_colours_and_its_transparent_entry_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (4, 0, 8, 8))
    row = np.asarray(read(stored(image)))[0]
    assert row[[0, 7]].tolist() == [[10, 20, 30], [200, 100, 50]]
    row = np.asarray(read(stored(image, transparency=1)))[0]
    assert row[[0, 7]].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.array([[0, 128, 257, 32768, 65535]], np.uint16).repeat(5, 0)
    assert np.asarray(read(stored(Image.fromarray(ramp))))[0].tolist() == [0, 0, 1, 128, 255]


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        colour = np.asarray(read(stored(image, kind, **options)))[8, 8]
        assert abs(colour.astype(int) - [255, 0, 0]).max() <= 3


def test_grey_images_are_told_from_colour_images() -> None:
    black_and_white = Image.new("1", (8, 8), 1)
    assert read(stored(black_and_white)).mode == "L"
    assert read(stored(noise(8, 8, 1))).mode == "L"
    assert read(stored(noise(8, 8, 3))).mode == "RGB"


def test_the_asked_channels_are_given() -> None:
    assert decode(stored(noise(8, 8, 3)), "x", Rules(8, 1, "refuse")).mode == "L"
    assert decode(stored(noise(8, 8, 1)), "x", Rules(8, 3, "refuse")).mode == "RGB"


def test_a_small_image_is_refused_with_its_size() -> None:
    message = r"^resolution: a.png is 9 x 20 pixels, smaller than 16; .*--small_images pad"
    with pytest.raises(UserError, match=message):
        decode(stored(noise(9, 20)), "a.png", Rules(16, 3, "refuse"))


def test_padding_keeps_the_pixels_and_takes_the_border_colour() -> None:
    pixels = np.full((8, 8, 3), (10, 20, 30), np.uint8)
    pixels[2:6, 2:6] = 200
    pixels[0, 0] = 255
    padded = np.asarray(decode(stored(Image.fromarray(pixels)), "x", Rules(16, 3, "pad")))
    assert np.array_equal(padded[4:12, 4:12], pixels)
    outside = np.ones((16, 16), bool)
    outside[4:12, 4:12] = False
    assert np.all(padded[outside] == (10, 20, 30))


def test_upscaling_fills_the_frame() -> None:
    decoded = decode(stored(Image.new("L", (8, 8), 77)), "x", Rules(16, 1, "upscale"))
    assert np.all(np.asarray(decoded) == 77)
    assert decoded.size == (16, 16)


def _cut(image: dict[str, Any]) -> bytes:
    return image["bytes"][: len(image["bytes"]) // 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"this is text, not an image", _cut(stored(noise(32, 32))), _cut(stored(noise(32, 32), "JPEG"))],
    ids=["empty", "text", "cut png", "cut jpeg"],
)
def test_damaged_bytes_are_recognised(content: bytes) -> None:
    with pytest.raises(DamagedImage):
        read({"bytes": content, "path": None})


def test_missing_images_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(DamagedImage, match="no image"):
        read(None)
    with pytest.raises(DamagedImage, match="No such file"):
        read({"bytes": None, "path": str(tmp_path / "gone.png")})


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_unknown_range_are_not_guessed(mode: str) -> None:
    with pytest.raises(DamagedImage, match="unknown range"):
        read(stored(Image.new(mode, (8, 8), 1_000_000), "TIFF"))


def test_a_decompression_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DamagedImage, match="16 x 16 pixels exceed"),
    ):
        read(stored(noise(16, 16)))
    with pytest.raises(DamagedImage, match="decompression bomb"):
        read(stored(noise(64, 64)))


# A busy machine may take some milliseconds for any of these.
BUSY = 0.05


def test_threads_decode_what_takes_long_and_a_loop_what_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hfgen.data.decode._LONG", BUSY)
    taken = []

    def image_of(seconds: float | None) -> Callable[[], float | None]:
        def decode_one() -> float | None:
            taken.append(seconds)
            time.sleep(seconds or 0)
            return seconds

        return decode_one

    # The first one also loads Pillow's plugins.
    assert not takes_long(map(image_of, (2 * BUSY, 0.0, 0.0, 0.0, 0.0, 9.0)))
    # A small one among them, and damaged ones, which fail soon.
    assert takes_long(map(image_of, (None, 2 * BUSY, 0.0, None, 2 * BUSY)))
    assert len(taken) == 10 and takes_long([])


@pytest.mark.parametrize(("side", "long", "threads"), [(16, BUSY, False), (512, _LONG, True)])
def test_large_images_are_decoded_in_threads(
    side: int, long: float, threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hfgen.data.decode._LONG", long)
    for index in range(12):
        noise(side, side).save(tmp_path / f"{index}.png")
    decoding = set()

    def decode_here(*image: Any) -> Any:
        decoding.add(threading.get_ident())
        return decode_and_tell(*image)

    monkeypatch.setattr("hfgen.data.split_images.decode_and_tell", decode_here)
    assert len(open_store(str(tmp_path), split="all", resolution=16)) == 12
    assert (decoding - {threading.get_ident()} != set()) == threads
