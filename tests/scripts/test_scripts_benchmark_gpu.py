"""The list for a GPU, tried on the CPU at toy size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={out}", *more]
    return subprocess.run(command, capture_output=True, text=True)


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines() if line.endswith("}")]


def test_a_row_that_is_there_is_not_measured_again(tmp_path: Path):
    arguments = ["--device=cpu", "--toy", "--parts=numbers", "--only=v"]
    first = run(tmp_path, *arguments)
    assert first.returncode == 0 and "numbers: done" in first.stdout, first.stderr
    found = rows(tmp_path)
    assert [row["name"].split(":")[0] for row in found] == ["vae", "vaegan", "vqvae"]
    # bf16 has 8 bits: neither equal nor another gradient.
    assert all(0 < error < 0.5 for row in found for error in row["values"].values()), found
    # As a kill in the middle of the second row leaves the file.
    kept = (tmp_path / "rows.jsonl").read_text().splitlines(keepends=True)[:1]
    (tmp_path / "rows.jsonl").write_text("".join(kept) + '{"part": "numbers", "na')
    assert run(tmp_path, *arguments).returncode == 0
    again = rows(tmp_path)
    assert again[:1] == found[:1]
    assert [(row["name"], row["values"]) for row in again] == [(row["name"], row["values"]) for row in found]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path):
    done = run(tmp_path / "out")
    assert done.returncode == 2 and "device: cuda isn't available" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_list_runs_at_toy_size(tmp_path: Path, glyph_folder: Path):
    done = run(tmp_path, "--device=cpu", "--toy", f"--data={glyph_folder}", "--minutes=20", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    assert list(dict.fromkeys(row["part"] for row in found)) == [
        "tests", "numbers", "speed", "evaluation", "training", "studies",
    ]  # fmt: skip
    assert {row["state"] for row in found} == {"measured"}
    assert (tmp_path / "table.md").read_text().count("\n|") == len(found) + 2
