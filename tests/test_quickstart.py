"""The main job, end to end and tiny: three runs, three records, one report; again, and on other data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ["--max_images=64", "--n=20"]


def quickstart(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hfgen", "quickstart", *TINY, f"--out={out}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


@pytest.fixture(scope="module")
def finished(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quickstart") / "out"
    done = quickstart(out, "--data", glyph_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"open {out / 'report.html'}"
    return out


def test_it_leaves_what_it_promises(finished: Path):
    for name in ("vae", "vqvae", "gan"):
        assert (finished / name / "pretrained" / "model_index.json").is_file()
        assert json.loads((finished / name / "record.json").read_text())["model"]["family"] == name
        assert list((finished / name / "dataset").glob("*.parquet"))
    assert json.loads((finished / "comparison.json").read_text())["models"].keys() == {"vae", "vqvae", "gan"}
    assert (finished / "report.html").is_file() and list((finished / "dataset").glob("*.parquet"))


def test_again_re_uses_it_all(finished: Path, glyph_folder: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = quickstart(finished, "--data", glyph_folder)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def test_other_data_in_the_same_folder_are_refused(finished: Path):
    done = quickstart(finished, "--data", "glyphs")
    assert done.returncode == 2
    assert "holds another run (data is" in done.stderr.splitlines()[-1]
