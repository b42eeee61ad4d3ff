"""The main job, end to end and tiny: three runs, three records, one report; again, and on other data."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import forked
from PIL import Image

from hfgen.cli import main

TINY = ["--max_images=64"]
HELD_OUT = 30


def quickstart(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process that has imported everything: test_readme starts one from nothing."""
    return forked("quickstart", *TINY, f"--out={out}", *arguments)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 unsorted JPEG files of all shapes, some below 32 px, some grey."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for index in range(300):
        height, width = random.integers(24, 90, 2)
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        image.convert("L" if index % 10 == 0 else "RGB").save(folder / f"IMG {index}.{'jpg' if index % 2 else 'JPEG'}")
    return folder


@pytest.fixture(scope="module")
def finished(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart") / "out"
    done = quickstart(out, "--data", photographs)
    assert done.returncode == 0, done.stderr
    assert f"n: {HELD_OUT}, all the images that {photographs} has in the split test" in done.stderr
    assert done.stdout.splitlines()[-1] == f"open {out / 'report.html'}"
    return out


def test_it_leaves_what_it_promises(finished: Path):
    for name in ("vae", "vqvae", "gan"):
        assert (finished / name / "pretrained" / "model_index.json").is_file()
        record = json.loads((finished / name / "record.json").read_text())
        assert record["model"]["family"] == name and record["data"]["n"] == HELD_OUT
        assert any("300 images" in note for note in record["notes"])
        assert list((finished / name / "dataset").glob("*.parquet"))
    assert json.loads((finished / "comparison.json").read_text())["models"].keys() == {"vae", "vqvae", "gan"}
    assert (finished / "report.html").stat().st_size < 3e6 and list((finished / "dataset").glob("*.parquet"))


def test_again_re_uses_it_all(finished: Path, photographs: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = quickstart(finished, "--data", photographs)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def test_other_data_in_the_same_folder_are_refused(finished: Path):
    done = quickstart(finished, "--data", "glyphs")
    assert done.returncode == 2
    assert "holds another run (data is" in done.stderr.splitlines()[-1]


def test_small_images_and_the_split_are_chosen_before_anything_is_trained(tmp_path: Path, capsys):
    for split, count in (("train", 40), ("validation", 25), ("test", 4)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (24, 24), (index, 200, 3)).save(tmp_path / "data" / split / f"{index}.png")
    command = ["quickstart", f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'out'}", *TINY]
    assert main(command) == 2
    assert "has 4 images in the split test, and the fewest to measure are 12" in capsys.readouterr().err
    assert main([*command, "--split=validation", "--n=26"]) == 2
    assert "n: 26 images asked of the 25 in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--split=validation", "--small_images=refuse"]) == 2
    assert "24" in capsys.readouterr().err and not (tmp_path / "out" / "vae" / "pretrained").exists()
