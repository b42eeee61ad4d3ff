"""The list for a GPU, tried on the CPU at toy size."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from commands import benchmark

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={out}", *more]
    return subprocess.run(command, capture_output=True, text=True)


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines() if line.endswith("}")]


def test_a_row_that_is_there_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu, gpu_parts, gpu_settings

    settings = gpu_settings.Settings("cpu", "glyphs", tmp_path, toy=True)
    names = [name for name, _ in gpu_parts.PARTS["numbers"].rows(settings)]
    found = gpu.Rows(tmp_path / "rows.jsonl")
    found.add("numbers", names[0], 1.0, state="measured", values={"error": 0.1})
    found.add("numbers", names[1], 1.0, state="failed", values={}, error="out of memory")
    # As a kill in the middle of the third row leaves the file.
    with found.file.open("a") as file:
        file.write('{"part": "numbers", "na')
    assert [name for name, _ in gpu._due("numbers", settings, found)] == names[1:]
    found.add("numbers", names[1], 2.0, state="measured", values={"error": 0.2})
    assert [name for name, _ in gpu._due("numbers", settings, found)] == names[2:]
    assert [row["state"] for row in found.newest()] == ["measured", "measured"]
    assert [row["state"] for row in rows(tmp_path)] == ["measured", "failed", "measured"]


@pytest.mark.slow
def test_a_part_that_is_repeated_leaves_its_rows(tmp_path: Path):
    arguments = ["--device=cpu", "--toy", "--parts=numbers", "--only=v"]
    first = run(tmp_path, *arguments)
    assert first.returncode == 0 and "numbers: done" in first.stdout, first.stderr
    found = rows(tmp_path)
    assert [row["name"].split(":")[0] for row in found] == ["vae", "vaegan", "vqvae"]
    # bf16 has 8 bits: neither equal nor another gradient.
    assert all(0 < error < 0.5 for row in found for error in row["values"].values()), found
    assert run(tmp_path, *arguments).returncode == 0 and rows(tmp_path) == found


def test_a_call_that_is_ended_ends_its_part(tmp_path: Path):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={tmp_path}", "--device=cpu", "--toy"]
    with subprocess.Popen([*command, "--parts=numbers"], stdout=subprocess.PIPE, text=True) as call:
        while not (parts := psutil.Process(call.pid).children()):
            assert call.poll() is None
            time.sleep(0.05)
        call.terminate()
        assert call.wait(60) == 128 + signal.SIGTERM
    # It would keep the card's memory.
    assert not psutil.pid_exists(parts[0].pid)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path):
    done = benchmark("gpu", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2 and "device: cuda isn't available" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_list_runs_at_toy_size(tmp_path: Path, glyph_folder: Path):
    done = run(tmp_path, "--device=cpu", "--toy", f"--data={glyph_folder}", "--minutes=20", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()[4:]
    assert list(dict.fromkeys(line.split(" | ")[0].strip("| ") for line in lines)) == [
        "tests", "numbers", "compiling", "gan", "vaegan", "speed", "evaluation", "studies", "sizes",
    ]  # fmt: skip
    assert {row["part"]: row["state"] for row in found if row["state"] != "measured"} == {"compiling": "left out"}
    assert len(lines) == len(found)
