"""Held-out images that the model may have seen: folders that grew, runs of all images."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderKL
from pictures import picture, write_pictures
from tiny import COMMON, TINY

import hfgen
from hfgen.cli import main

SETTINGS: dict[str, Any] = {"n": 20, "extractor": "pixels", "resolution": 16, "small_images": "upscale"}
CHANGED = "has other training images or labels now than when the model was trained"


def notes(run: Path, data: Path, **settings: Any) -> list[str]:
    record = hfgen.evaluate(run / "pretrained" / "vae", str(data), **{**SETTINGS, **settings}).record
    return [note for note in record["notes"] if "the model was trained" in note]


def train(data: Path, out: Path, *settings: str) -> Path:
    options = [*COMMON, *TINY["vae"], "--max_images=32", "--small_images=upscale", f"--data={data}", f"--out={out}"]
    assert main(["train", "vae-glyphs", *options, *settings]) == 0
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    write_pictures(folder, 260)
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(photos, tmp_path_factory.mktemp("runs") / "vae")


def test_nothing_is_said_where_the_data_are_the_same(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch):
    assert not notes(run, photos)
    monkeypatch.chdir(photos.parent)
    assert not notes(run, Path("photos"))


def test_images_that_came_since_are_said(run: Path, photos: Path, tmp_path: Path):
    """In place: another folder is other data, of which a run knows nothing."""
    elsewhere = Path(shutil.copytree(photos, tmp_path / "photos"))
    write_pictures(elsewhere / "more", 20)
    assert not notes(run, elsewhere)
    moved = train(elsewhere, tmp_path / "vae")
    write_pictures(elsewhere / "again", 20)
    (said,) = notes(moved, elsewhere)
    assert said.startswith(f"split test: {elsewhere} ") and CHANGED in said
    # Whoever measures training images is told that they are; otherwise prepared images have another fingerprint.
    assert not notes(moved, elsewhere, split="train")
    assert not notes(moved, elsewhere, resolution=32)
    assert not notes(moved, elsewhere, small_images="pad")


def test_the_number_of_channels_may_be_given(tmp_path: Path):
    data = tmp_path / "photos"
    write_pictures(data, 260)
    run = train(data, tmp_path / "vae", "--channels=3")
    write_pictures(data / "more", 20)
    assert len(notes(run, data)) == 1


def test_labels_that_were_left_out_are_no_change(tmp_path: Path):
    data = tmp_path / "photos"
    for name in ("a", "b"):
        write_pictures(data / name, 130)
    run = train(data, tmp_path / "vae", "--label_column=none")
    assert not notes(run, data) and not notes(run, data, label_column="none")


def test_a_relative_path_is_that_of_a_run_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In another project photos are other photos."""
    for project, count in (("one", 260), ("two", 280)):
        write_pictures(tmp_path / project / "photos", count)
    monkeypatch.chdir(tmp_path / "one")
    run = train(Path("photos"), Path("runs/vae")).resolve()
    write_pictures(Path("photos") / "more", 20)
    assert len(notes(run, Path("photos"))) == 1
    monkeypatch.chdir(tmp_path / "two")
    assert not notes(run, Path("photos"))


def test_the_split_that_served_is_the_one_that_was_seen(tmp_path: Path):
    data = tmp_path / "photos"
    for split, count in (("train", 60), ("validation", 40)):
        write_pictures(data / split, count)
    run = train(data, tmp_path / "vae", "--split=test")
    (said,) = notes(run, data)
    assert said.startswith("split validation: the model was trained on split validation of ")


def test_images_of_their_own_shapes_are_told_alike(tmp_path: Path):
    data, model = tmp_path / "photos", tmp_path / "vae" / "pretrained" / "vae"
    for split, count in (("train", 60), ("validation", 40)):
        for index in range(count):
            (data / split).mkdir(parents=True, exist_ok=True)
            picture(seed=index, side=16).save(data / split / f"{index}.png")
    train(data, tmp_path / "vae", "--split=test")
    # An autoencoder of any size, in the run's folder.
    shutil.rmtree(model)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1).save_pretrained(model)
    record, again = (
        hfgen.evaluate(model, str(data), **settings).record for settings in ({"crop": "none", "n": 4}, SETTINGS)
    )
    told = [
        f"split validation: the model was trained on split validation of {data}, so these images aren't held out",
        "there is no split test: validation serves as held-out",
    ]
    assert set(told) < set(record["notes"]) and set(told) < set(again["notes"])
    assert record["data"]["split"] == "validation" == again["data"]["split"]
    seen = hfgen.evaluate(model, str(data), crop="none", n=4, split="train").record
    assert "split train: these images aren't held out; models may be trained on them" in seen["notes"]
    assert record["model"] == again["model"] and len(record["model"]["weights"]) == 64


def test_a_run_of_all_images_has_seen_the_held_out_ones(photos: Path, tmp_path: Path):
    (said,) = notes(train(photos, tmp_path / "vae", "--split=all"), photos)
    assert said == f"split test: the model was trained on split all of {photos}, so these images aren't held out"


def test_a_diagnosis_says_so_too(photos: Path, tmp_path: Path):
    model = train(photos, tmp_path / "vae", "--split=test") / "pretrained" / "vae"
    found = hfgen.diagnose(model, str(photos), tmp_path / "why", refits=False, **SETTINGS)
    assert any("trained on split test" in note for note in found.record["notes"])


def test_a_damaged_run_json_says_nothing(run: Path, photos: Path, tmp_path: Path):
    copy = Path(shutil.copytree(run, tmp_path / "vae"))
    (copy / "run.json").write_text("{")
    assert not notes(copy, photos)
