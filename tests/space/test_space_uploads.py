"""Strangers' files: each kind is shown right or refused in one line, before its pixels take memory."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from hfgen.errors import UserError
from hfgen.space import uploads
from hfgen.space.uploads import Upload

SIDE = 16
GREY = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
BLACK = Image.new("L", (SIDE, SIDE))
AVIF = ["AVIF"] if features.check("avif") else []
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", *AVIF]


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def saved(kind: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG whose header promises gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", Image.fromarray(np.repeat(GREY, 2, 1)), exif=exif, quality=100)


def transparent() -> Image.Image:
    return Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))


def upload(content: bytes, folder: Path) -> Upload:
    path = folder / "file"
    path.write_bytes(content)
    return Upload(path)


def test_pixels_of_the_right_size_stay_as_they_are(tmp_path: Path):
    found = upload(png(Image.fromarray(GREY)), tmp_path)
    assert not found.notes
    assert torch.equal(found.pixels(SIDE, 1)[0, 0], torch.from_numpy(GREY))
    assert found.pixels(SIDE, 3).shape == (1, 3, SIDE, SIDE)
    padded = found.pixels(2 * SIDE, 1)
    assert torch.equal(padded[0, 0, 8:24, 8:24], torch.from_numpy(GREY))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (
            lambda: saved("GIF", Image.fromarray(GREY), save_all=True, append_images=[Image.new("L", (16, 16))]),
            "frames",
        ),
        (lambda: png(Image.fromarray(GREY.astype(np.uint16) * 257)), "16-bit"),
        (lambda: saved("JPEG", Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))), "CMYK"),
        (lambda: png(transparent()), "transparency"),
        (rotated, "EXIF"),
        (lambda: saved("JPEG2000", Image.new("RGB", (40, 20))), "centre square of 40 x 20"),
        (lambda: saved("PPM", Image.new("RGB", (40, 20))), "centre square of 40 x 20"),
        (lambda: saved("WEBP", Image.new("RGB", (40, 20)), lossless=True), "centre square of 40 x 20"),
    ],
)
def test_what_is_done_to_an_image_is_said(content: Callable[[], bytes], note: str, tmp_path: Path):
    found = upload(content(), tmp_path)
    assert any(note in words for words in found.notes), found.notes
    assert found.pixels(SIDE, 3).shape == (1, 3, SIDE, SIDE)


def test_unusual_modes_keep_their_meaning(tmp_path: Path):
    wide = upload(png(Image.fromarray(GREY.astype(np.uint16) * 257)), tmp_path).pixels(SIDE, 1)
    assert torch.equal(wide[0, 0], torch.from_numpy(GREY))
    palette = upload(png(Image.fromarray(GREY).convert("P")), tmp_path).pixels(SIDE, 1)
    assert torch.equal(palette[0, 0], torch.from_numpy(GREY))
    assert (upload(png(transparent()), tmp_path).pixels(SIDE, 3) == 255).all()
    red = upload(saved("JPEG", Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))), tmp_path).pixels(SIDE, 3)
    assert red[0, 0].min() > 200 and red[0, 1].max() < 60


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, world", "no PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "no PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG"),
        (png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)))[:900], "can't be read"),
        (bomb(), "more than 16,777,216"),
        (bomb(5000, 5000), "5000 x 5000 pixels are more"),
        (bomb(64, 64), "can't be read"),
        (saved("TIFF", Image.fromarray(np.ones((16, 16), np.float32))), "floating-point"),
    ],
    ids=["empty", "text", "svg", "postscript", "truncated", "bomb", "large", "short", "float"],
)
def test_a_bad_file_is_refused_in_one_line(content: bytes, words: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        upload(content, tmp_path).pixels(SIDE, 1)
    message = str(caught.value)
    assert message.startswith("image: ") and words in message and "\n" not in message
    assert str(tmp_path) not in message


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="the file is larger"):
        upload(b"x" * 101, tmp_path)


def test_changed_files_are_decoded_or_refused_in_one_line(tmp_path: Path):
    """Bytes of each format changed at random, cut or joined."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    sources, ended = [], {"decoded": 0, "refused": 0}
    for format in FORMATS:
        buffer = io.BytesIO()
        noise.save(buffer, format)
        sources.append(buffer.getvalue())
    for seed in range(300):
        draw = random.Random(seed)
        content = bytearray(draw.choice(sources))
        for _ in range(draw.choice([0, 1, 4, 40])):
            content[draw.randrange(draw.choice([40, len(content)]))] = draw.randrange(256)
        if draw.random() < 0.3:
            content = content[: draw.randrange(len(content))] + draw.choice([b"", b"", sources[0]])
        (tmp_path / "file").write_bytes(content)
        try:
            assert Upload(tmp_path / "file").pixels(16, draw.choice([1, 3])).shape[-2:] == (16, 16)
            ended["decoded"] += 1
        except UserError as refusal:
            assert "\n" not in str(refusal), f"seed {seed}"
            ended["refused"] += 1
    assert ended["decoded"] > 30 and ended["refused"] > 50


def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="image: it can't be read"):
            Upload(path)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_shown_as_pillow_reads_it_and_is_bounded_as_the_others(tmp_path: Path):
    picture = Image.fromarray(np.repeat(GREY[..., None], 3, 2))
    content = saved("AVIF", picture, quality=100, subsampling="4:4:4")
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (upload(content, tmp_path).pixels(SIDE, 3)[0].permute(1, 2, 0).numpy() == expected).all()
    assert np.abs(expected.astype(int) - GREY[..., None]).max() <= 2
    with pytest.raises(UserError, match="6000 x 4000 pixels are more"):
        upload(saved("AVIF", Image.new("L", (6000, 4000)), quality=1, speed=10), tmp_path)
