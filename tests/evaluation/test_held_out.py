"""How many held-out images there are is found first; what is compared has one kind of pixels, and is of now."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfgen.cli import main
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.held_out import choose_n, held_out_images
from hfgen.evaluation.samples import evaluate_samples

SIDE = 16


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    shape = (SIDE, SIDE, 3) if mode == "RGB" else (SIDE, SIDE)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def write(folder: Path, count: int, mode: str = "RGB", first: int = 0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        picture(index, mode).save(folder / f"{index:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("undivided"), 150)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("few"), 30)


def test_all_that_is_there_is_measured_by_default(undivided: str):
    assert choose_n(undivided, "test", None) == 15
    assert choose_n(undivided, "test", None, most=13) == 13
    assert choose_n(undivided, "test", 12) == 12
    assert len(held_out_images(undivided, resolution=SIDE, channels=3).images) == 15


def test_what_cannot_be_is_refused_with_what_can(undivided: str, few: str):
    with pytest.raises(SettingsError, match=r"^n: 2000 images asked of the 15 in .*, split test; give 12 to 15$"):
        choose_n(undivided, "test", 2000)
    with pytest.raises(SettingsError, match="give 12 to 15"):
        choose_n(undivided, "test", 0)
    with pytest.raises(DataError, match=r"^data: .* has 3 images in the split test, and the fewest to measure are 12;"):
        choose_n(few, "test", None)
    with pytest.raises(DataError, match=r"has 3 images in the split test"):
        choose_n(few, "test", 12)


def test_the_embedded_extractor_asks_for_training_images_first(tmp_path: Path):
    write(tmp_path / "train", 5)
    write(tmp_path / "test", 20)
    with pytest.raises(DataError, match=r"has 5 images to train on, and the fewest .* are 20; .* --extractor"):
        choose_n(str(tmp_path), "test", None)
    assert choose_n(str(tmp_path), "test", None, extractor="inception") == 20


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "no/model", "--data={data}", "--out={out}", "--n=500"],
        ["compare", "no/model", "no/other", "--data={data}", "--out={out}", "--n=500"],
        ["diagnose", "no/model", "--data={data}", "--split=train", "--out={out}", "--n=500"],
        ["quickstart", "--data={data}", "--out={out}", "--n=500"],
        ["evaluate", "--samples={data}", "--data={data}", "--out={out}", "--n=500"],
    ],
)
def test_no_verb_begins_with_too_many(command: list[str], undivided: str, tmp_path: Path, capsys):
    """Not even to look for the model, which isn't there."""
    out = tmp_path / "out"
    assert main([part.format(data=undivided, out=out) for part in command]) == 2
    assert re.search(r"error: n: 500 images asked of the (15|135|150) in .*; give \d+ to \1$", capsys.readouterr().err)
    assert not out.exists()


def test_a_study_begins_with_too_few_images_no_training(few: str, tmp_path: Path, capsys):
    assert main(["study", "loss", "--budget=smoke", f"--data={few}", f"--out={tmp_path / 'out'}"]) == 2
    assert "has 3 images in the split test" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_changed_gives_its_images_of_now(tmp_path: Path):
    for split, count in (("train", 40), ("test", 14)):
        write(tmp_path / split, count)
    before = held_out_images(str(tmp_path), resolution=SIDE, channels=3)
    assert held_out_images(str(tmp_path), resolution=SIDE, channels=3) is before
    write(tmp_path / "test", 14, first=500)
    after = held_out_images(str(tmp_path), resolution=SIDE, channels=3)
    assert len(before.images) == 14 and len(after.images) == 28
    assert after.store.fingerprint != before.store.fingerprint


def test_copies_of_training_images_are_counted(tmp_path: Path):
    for name, first in (("copies", 50), ("other", 60)):
        write(tmp_path / name / "train", 60)
        write(tmp_path / name / "test", 20, first=first)
    settings = {"resolution": SIDE, "channels": "auto", "extractor": "pixels"}
    for split, expected in (("test", ["split test: 10 of 20 images are in the split train too"]), ("train", [])):
        notes = held_out_images(str(tmp_path / "copies"), split=split, **settings).notes
        assert [note.partition(",")[0] for note in notes if "pixel by pixel" in note] == expected
    assert not any("pixel by pixel" in note for note in held_out_images(str(tmp_path / "other"), **settings).notes)


def test_too_few_or_no_training_images_are_said_with_a_remedy_that_helps(tmp_path: Path):
    write(tmp_path / "divided" / "test", 30)
    write(tmp_path / "few", 20)
    for split in ("test", "all"):
        with pytest.raises(DataError, match=r"divided has no split train, .*; add one, or give images that aren't div"):
            choose_n(str(tmp_path / "divided"), split, 12)
    assert choose_n(str(tmp_path / "divided" / "test"), "all", None) == 30
    with pytest.raises(DataError, match=r"18 images to train on, .* the extractor pixels takes are 20"):
        choose_n(str(tmp_path / "few"), "all", 12, extractor="pixels")
    with pytest.raises(SettingsError, match=r"^n: '12' isn't an integer"):
        choose_n(str(tmp_path / "divided" / "test"), "all", "12")  # type: ignore[arg-type]


def test_a_resolution_without_a_spectrum_is_refused_first(undivided: str):
    with pytest.raises(SettingsError, match="resolution: 8 pixels are too few for a spectrum; use 16 or more"):
        held_out_images(undivided, resolution=8, channels=3)


def test_grey_samples_of_coloured_data_are_no_perfect_match(tmp_path: Path):
    """The same pictures without their colour, of data whose classes are colours."""
    for index in range(120):
        split, channel = ("test" if index % 2 else "train"), index // 2 % 3
        pixels = np.asarray(picture(index)) // 4
        pixels[:, :, channel] += 150
        for place, image in (("data", Image.fromarray(pixels)), ("grey", Image.fromarray(pixels).convert("L"))):
            folder = tmp_path / place / split / f"class{channel}" if place == "data" else tmp_path / place
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{index:04d}.png")
    data = str(tmp_path / "data")
    record = evaluate_samples(str(tmp_path / "grey"), data).record
    assert record["data"]["channels"] == 3 and record["data"]["n"] == 60
    assert "channels: the samples are grey and the data aren't; all were measured in colour" in record["notes"]
    coloured = evaluate_samples(data, data, samples_split="test").record
    assert not [note for note in coloured["notes"] if note.startswith("channels")]
    assert record["metrics"]["kid"]["low"] > coloured["metrics"]["kid"]["high"]
    assert record["metrics"]["coverage"]["high"] < coloured["metrics"]["coverage"]["low"]


def test_coloured_samples_of_grey_data_keep_their_colour(undivided: str, tmp_path: Path):
    grey = write(tmp_path, 150, "L")
    evaluation = evaluate_samples(undivided, grey, n=12)
    samples, originals = evaluation.samples, evaluation.originals
    assert samples is not None and not torch.equal(samples[:, 0], samples[:, 1])
    assert torch.equal(originals[:, 0], originals[:, 1]) and evaluation.record["data"]["channels"] == 3
    assert (
        "channels: the data are grey and the samples aren't; all were measured in colour" in evaluation.record["notes"]
    )


def test_measures_refuse_sets_of_different_pixels(undivided: str):
    from hfgen.errors import UserError
    from hfgen.evaluation.measurement import measure

    real = held_out_images(undivided, resolution=SIDE, channels=3)
    with pytest.raises(UserError, match="samples: channels x height x width 1 x 16 x 16, but 3 x 16 x 16 of the real"):
        measure(real, None, real.images[:, :1], 0)
    with pytest.raises(UserError, match="reconstructions: channels x height x width 3 x 8 x 8"):
        measure(real, real.images[:, :, :8, :8], None, 0)


def test_too_few_samples_are_refused_before_the_data_are_read(few: str, undivided: str, tmp_path: Path):
    made = write(tmp_path, 4)
    with pytest.raises(DataError, match=r"^samples: .* holds 4 images, and the fewest to measure are 12; add images$"):
        evaluate_samples(made, undivided)
    evaluation = evaluate_samples(few, undivided)
    assert evaluation.record["data"]["n"] == 15
