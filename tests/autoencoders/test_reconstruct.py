"""`hfgen reconstruct` on images of any shape: whole, in tiles, and what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from classes import photographs, save
from PIL import Image

from hfgen.cli import main
from hfgen.data import whole_images
from hfgen.errors import DataError, SettingsError
from hfgen.images import to_pil, to_uint8

SHAPES = [(20, 33), (16, 16), (41, 24)]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Three colour pictures of three shapes, one of them with transparency, and a damaged one."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    for index, shape in enumerate(SHAPES):
        picture = to_pil(to_uint8(photographs(1, shape)))[0]
        if index == 1:
            picture.putalpha(Image.new("L", picture.size, 0))
        picture.save(folder / f"{index}.png")
    (folder / "3.png").write_bytes(b"no image")
    return folder


def test_images_keep_their_shapes(shapes: Path, caplog: pytest.LogCaptureFixture):
    found = whole_images(str(shapes), split="all", n=10, skip_damaged=True)
    assert [tuple(image.shape) for image in found.images] == [(3, *shape) for shape in SHAPES]
    assert torch.equal(found.images[0], to_uint8(photographs(1, SHAPES[0]))[0])
    assert bool((found.images[1] == 255).all()), "what is transparent is white"
    assert found.notes == ["1 of 3 images transparent, composited on white", "1 damaged images were left out"]
    with pytest.raises(DataError, match=r"3\.png can't be read .*; fix it, or pass --skip_damaged"):
        whole_images(str(shapes), split="all", n=10)
    first, again = (whole_images(str(shapes), split="all", n=2, seed=5, skip_damaged=True).images for _ in range(2))
    assert len(first) <= 2 and all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    with pytest.raises(SettingsError, match="crop: glyphs is drawn at the size that is asked for"):
        whole_images("glyphs", n=1)


def reconstruct(*words: str | Path, code: int = 0) -> None:
    assert main(["reconstruct", *map(str, words)]) == code


def test_reconstructions_stand_beside_the_images_with_their_shapes(shapes: Path, tmp_path: Path):
    model, out = save("AutoencoderKL", tmp_path / "model"), tmp_path / "out.png"
    shown = ("--data", shapes, "--split", "all", "--skip_damaged", "--out", out)
    reconstruct(model, *shown, "--crop", "none")
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (20 + 16 + 41 + 2 * 2, 2 * 33 + 2, 3)
    original = np.asarray(to_pil(to_uint8(photographs(1, SHAPES[0])))[0])
    assert (sheet[:20, :33] == original).all() and not (sheet[:20, 35:] == original).all()
    assert (sheet[22:38, 34:] == 255).all(), "beside smaller ones the sheet is white"


def test_tiles_are_said_with_their_seams(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, out = save("AutoencoderKL", tmp_path / "model"), tmp_path / "out.png"
    shown = ("--data", shapes, "--split", "all", "--skip_damaged", "--out", out)
    reconstruct(model, *shown, "--crop", "none", "--tile", "16")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiles of 16 px change the first image by ") and "of 255 levels" in lines[0]
    assert lines[1].split()[:5] == ["0", "to", "0", "px", "from"] and lines[-1] == str(out)
    reconstruct(model, *shown, "--resolution", "16", "--tile", "8")
    assert capsys.readouterr().out.startswith("tiles of 8 px change")


def test_a_picture_without_room_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "wide").mkdir()
    Image.new("RGB", (8200, 16)).save(tmp_path / "wide" / "0.png")
    model, out = save("AutoencoderKL", tmp_path / "model"), tmp_path / "out.webp"
    monkeypatch.setattr("hfgen.autoencoders.sizes.reconstruct_any_size", None)
    reconstruct(model, "--data", tmp_path / "wide", "--split", "all", "--crop", "none", "--out", out, code=2)
    assert "out: WEBP holds 16383 pixels a side, not 16402 x 16; give a name in .png" in capsys.readouterr().err
    assert not out.exists()


def test_a_bare_autoencoder_draws_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = save("AutoencoderKL", tmp_path / "model")
    assert main(["sample", str(model), "--out", str(tmp_path / "out.png")]) == 2
    assert "is an autoencoder, which draws nothing without a prior; use `hfgen reconstruct" in capsys.readouterr().err


def test_the_space_shows_models_of_any_class_at_one_resolution(shapes: Path, tmp_path: Path):
    from hfgen.space.knobs import Knobs
    from hfgen.space.loaded_models import open_models
    from hfgen.space.side_by_side import reconstructions

    (shapes / "3.png").unlink()
    models = [str(save(name, tmp_path / name)) for name in ("AutoencoderKLWan", "VQModel", "AutoencoderDC")]
    loaded = open_models(models, str(shapes), resolution=16)
    assert not loaded.failed and not loaded.generators and {model.size for model in loaded.encoders} == {(16, 3)}
    for knobs in (Knobs(), Knobs(noise=1, posterior=True, quantise=False, keep=0.5)):
        shown = reconstructions(loaded, 0, knobs).values["models"]
        assert len(shown) == 3 and all(one["psnr"] > 0 for one in shown)


def test_an_evaluation_in_tiles_keeps_their_seams(tmp_path: Path):
    from hfgen.documents import RECORD
    from hfgen.evaluation.evaluate import evaluate

    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for index, image in enumerate(to_pil(to_uint8(photographs(24, 32)))):
            image.save(tmp_path / split / f"{index}.png")
    model = save("AutoencoderKL", tmp_path / "model")
    found = evaluate(model, str(tmp_path), n=20, resolution=32, tile=16, extractor="pixels", out=tmp_path / "out")
    tiles = RECORD.read(tmp_path / "out" / "record.json")["tiles"]
    assert tiles == found.record["tiles"] and tiles["tile"] == 16 and tiles["images"] == 4 and tiles["rmse"] > 0


def test_what_cannot_be_shown_is_refused(shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys):
    caplog.set_level(logging.ERROR, "hfgen")
    fixed, codes = save("AutoencoderRAE", tmp_path / "rae"), save("VQModel", tmp_path / "vq")
    shown = ("--data", shapes, "--split", "all", "--out", tmp_path / "out.png")
    for words, message in [
        ((fixed, "--crop", "none"), "takes images of 16 pixels only; use center"),
        ((codes, "--tile", "16"), "tile: diffusers has no tiling for VQModel"),
        ((codes, "--crop", "none", "--resolution", "16"), "resolution: images keep their own shapes"),
    ]:
        reconstruct(*words, *shown, code=2)
        assert message in capsys.readouterr().err + caplog.text
    assert not (tmp_path / "out.png").exists()
