"""Real processes: killed, stopped, interrupted, and two at a time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import COMMON, TINY

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"


def arguments(family: str, data: Path, out: Path, *more: str) -> list[str]:
    return [f"{family}-glyphs", f"--out={out}", f"--data={data}", *COMMON, *TINY[family], *more]


def start(command: list[str]) -> subprocess.Popen[str]:
    # Threads are fixed, since the order of sums depends on their number.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(command: list[str]) -> None:
    process = start(command)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def digests(out: Path) -> dict[str, str]:
    last = max((out / "checkpoints").iterdir())
    return json.loads((last / "training_state" / "state.json").read_text())["sha256"]


LONGER = ("--max_images=320", "--checkpoint_every=32")


def test_killed_and_repeated_equals_never_interrupted(family: str, glyph_folder: Path, tmp_path: Path):
    command = [sys.executable, str(SCRIPT), *arguments(family, glyph_folder, tmp_path / "killed", *LONGER)]
    seed = random.randrange(2**32)
    print(f"kill seed {seed}")
    chance = random.Random(seed)
    for _ in range(2):
        process = start(command)
        wait_for(tmp_path / "killed" / "log.jsonl", process)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(command)
    finish([sys.executable, str(SCRIPT), *arguments(family, glyph_folder, tmp_path / "whole", *LONGER)])
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert (tmp_path / "killed" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()
    assert (tmp_path / "killed" / "pretrained" / "model_index.json").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(number: signal.Signals, code: int, glyph_folder: Path, tmp_path: Path):
    more = ("--max_images=1000000", "--checkpoint_every=0", "--sample_every=0")
    process = start([sys.executable, str(SCRIPT), *arguments("vae", glyph_folder, tmp_path / "run", *more)])
    wait_for(tmp_path / "run" / "log.jsonl", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "repeat the command to go on" in errors and "Traceback" not in errors
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert json.loads((checkpoint / "training_state" / "state.json").read_text())["images_seen"] == int(checkpoint.name)
    assert not (tmp_path / "run" / "pretrained").exists()


def test_two_processes_learn_what_one_learns(family: str, glyph_folder: Path, tmp_path: Path):
    more = ("--precision=fp32",)
    finish([sys.executable, str(SCRIPT), *arguments(family, glyph_folder, tmp_path / "one", *more)])
    # For CPU processes `accelerate launch` itself knows only MPI; its launcher of GPU processes starts them as well.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    launch.append("--main_process_port=0")
    finish([*launch, str(SCRIPT), *arguments(family, glyph_folder, tmp_path / "two", *more)])
    assert all(json.loads(line)["processes"] == 2 for line in (tmp_path / "two" / "speed.jsonl").open())
    for path in sorted((tmp_path / "one" / "checkpoints" / "000000000096" / "training_state").glob("network.*")):
        one, two = load_file(path), load_file(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for key in one:
            torch.testing.assert_close(two[key], one[key], atol=2e-4, rtol=1e-3, msg=f"{path.stem}: {key}")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for first, second in zip(*(map(json.loads, log) for log in logs), strict=True):
        assert first.keys() == second.keys()
        assert all(abs(first[key] - second[key]) < 1e-3 * max(1, abs(first[key])) for key in first)
