"""`--crop none`: images of their own shapes, measured one by one, against the formulae on each image by itself."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import load_dataset
from diffusers import AutoencoderKL
from PIL import Image

import hfgen
from hfgen import metrics
from hfgen.cli import main
from hfgen.documents import WHOLE
from hfgen.errors import DataError, SettingsError
from hfgen.images import from_pil

SHAPES = ((40, 63), (80, 50), (40, 63), (66, 66))


@pytest.fixture(scope="module")
def model() -> AutoencoderKL:
    """A tiny one of colour images."""
    blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (8, 8)}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4, "layers_per_block": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(latent_channels=2, **blocks).eval()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth noise, of several shapes that the factor doesn't divide."""
    folder, noise = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for index, (height, width) in enumerate(SHAPES):
        small = Image.fromarray(noise.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def found(model: AutoencoderKL, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of all images."""
    out = tmp_path_factory.mktemp("whole")
    return out, hfgen.evaluate(model, photographs, split="all", crop="none", out=out)


def test_numbers_are_those_of_each_image_by_itself(found: Any, model: AutoencoderKL, photographs: Path):
    _, evaluation = found
    pairs = []
    for index, (height, width) in enumerate(SHAPES):
        original = from_pil([Image.open(photographs / f"{index}.png")], 3)
        padded = torch.nn.functional.pad(original.float() / 127.5 - 1, (0, width % 2, 0, height % 2), mode="reflect")
        with torch.no_grad():
            decoded = model.decode(model.encode(padded).latent_dist.mean).sample[:, :, :height, :width]
        made = decoded.add(1).mul(127.5).round().clamp(0, 255).byte()
        assert torch.equal(made[0], evaluation.reconstructions[index])
        pairs.append((original, made))
    record = evaluation.record["metrics"]
    psnr = [float(metrics.psnr(*pair, 255)) for pair in pairs]
    assert record["psnr"]["value"] == pytest.approx(np.mean(psnr), rel=1e-9)
    assert evaluation.columns["psnr"].tolist() == pytest.approx(psnr)
    bands = [metrics.band_measures(*pair, "hann") for pair in pairs]
    gain = sum(float(band.product.high) for band in bands) / sum(float(band.reconstruction.high) for band in bands)
    assert record["gain_high"]["value"] == pytest.approx(gain)
    assert record["ciede2000"]["value"] == pytest.approx(
        np.mean([float(metrics.colour_errors(*pair)["ciede2000"]) for pair in pairs])
    )
    assert all(entry["n"] == len(SHAPES) for entry in record.values())


def test_what_is_written_and_printed(found: Any):
    out, evaluation = found
    assert WHOLE.read(out / "whole.json") == evaluation.record
    assert evaluation.record["data"]["shapes"] == {"50x80": 1, "63x40": 2, "66x66": 1}
    assert evaluation.record["data"]["split"] == "all"
    assert "split all: these images aren't held out; models may be trained on them" in evaluation.record["notes"]
    (note,) = (note for note in evaluation.record["notes"] if note.startswith("crop none"))
    assert "kid" in note and "kid_reconstruction" not in evaluation.record["metrics"]
    assert "4 images of" in str(evaluation) and "3 sizes" in str(evaluation)
    assert "<td>psnr</td>" in evaluation._repr_html_()
    rows = load_dataset(str(out / "dataset"), split="test")
    assert [row["reconstruction"].size for row in rows] == [(width, height) for height, width in SHAPES]
    assert not (out / "record.json").exists()


def test_the_command_with_tiles_says_the_seams(
    model: AutoencoderKL, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model.save_pretrained(tmp_path / "vae")
    options = ["--data", str(photographs), "--split", "all", "--n", "3", "--crop", "none", "--tile", "32"]
    assert main(["evaluate", str(tmp_path / "vae"), *options, "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "whole.json").read_text())
    assert record["tiles"]["tile"] == 32 and record["tiles"]["rmse"] > 0 and record["data"]["n"] == 3
    printed = capsys.readouterr().out
    assert re.search(r"^psnr +", printed, re.M) and "whole.json" in printed


def test_what_has_one_size_is_refused(model: AutoencoderKL, photographs: Path):
    def evaluate(given: Any, data: Any = photographs, **options: Any) -> None:
        hfgen.evaluate(given, data, **{"split": "all", "crop": "none", **options})

    refused: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (model, {"resolution": 64}, SettingsError, "resolution: images keep their own shapes"),
        (model, {"extractor": "pixels"}, SettingsError, "extractor: pixels, but --crop none compares no features"),
        (model, {"data": "glyphs", "split": "test"}, SettingsError, "crop: glyphs is drawn at the size"),
        (model, {"crop": "middle"}, SettingsError, "crop: 'middle' is unknown; use center or none"),
        (model, {"n": 9}, SettingsError, "n: 9 of 4 images"),
        (model, {"data": [Image.new("RGB", (8, 40))] * 2}, DataError, "an image of 40 x 8 pixels is too small"),
    ]
    for given, options, error, words in refused:
        with pytest.raises(error, match=words):
            evaluate(given, **options)
    with pytest.raises(SettingsError, match=r"crop: lambda .* takes images of 64 pixels only; use center"):
        evaluate(lambda images: images, resolution=64)


@pytest.mark.parametrize(
    "words",
    [
        "evaluate --verify {folder}",
        "compare {folder} {model} --out {out}",
        "compare {folder} {model} --data glyphs --out {out}",
        "publish {model} --to a/b --dry_run --record {folder}",
    ],
)
def test_what_needs_a_record_says_how_one_is_made(
    words: str, found: Any, model: AutoencoderKL, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    places = {"folder": found[0], "model": tmp_path / "model", "out": tmp_path / "out"}
    hfgen.pipelines.AutoencoderPipeline(model).save_pretrained(places["model"])
    assert main([word.format(**places) for word in words.split()]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"holds whole\.json of `--crop none`.* without --crop none writes what this takes", said), said


def test_drawn_images_of_other_channels_than_the_models_are_refused(model: AutoencoderKL):
    for measure in (hfgen.evaluate, hfgen.diagnose):
        with pytest.raises(SettingsError, match=r"^data: glyphs has grey images, and the model takes RGB ones; name"):
            measure(model, "glyphs", resolution=32)
