"""The list for a GPU, tried on the CPU at toy size."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from commands import benchmark

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """With a relative `--out`, from a folder that isn't the checkout."""
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={out.name}", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=out.parent)


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


def test_parts_that_are_not_timed_run_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu, gpu_parts

    first, third = ["tests", "numbers", "compiling"], ["gan", "vaegan", "compiling_others"]
    groups = [first, ["speed"], ["evaluation"], third, ["studies"], ["sizes"]]
    assert gpu._groups(list(gpu_parts.PARTS)) == groups
    assert gpu._groups(["speed", "tests", "tests"]) == [["speed"], ["tests"]]
    assert gpu_parts.PARTS["gan"].limit(4) == gpu_parts.PARTS["gan"].minutes + 4
    assert gpu_parts.PARTS["speed"].limit(4) == gpu_parts.PARTS["speed"].minutes


def test_a_trial_gives_the_rate_after_the_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu_parts

    seconds = [60.0, 1.0, 1.0, 3.0]
    lines = [{"images": 100 * (index + 1), "seconds": each} for index, each in enumerate(seconds)]
    assert gpu_parts._rate(lines) == 200 / 4 and gpu_parts._rate(lines[:1]) == 100 / 60


def test_rows_of_a_part_that_is_no_more_stay_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu

    found = gpu.Rows(tmp_path / "rows.jsonl")
    for part in ("training", "speed", "tests"):
        found.add(part, "a row", 1.0, state="measured", values={"images": 5})
    table = gpu._table(found, argparse.Namespace(device="cpu", toy=True))
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == ["| tests", "| speed", "| training"]


def test_a_training_that_was_ended_goes_on_with_as_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another trial would have another rate, and `hfgen train` refuses to go on with other images."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu_parts, gpu_settings

    import hfgen

    class Ended(Exception):
        pass

    launched: list[list[str]] = []

    def launch(settings: gpu_settings.Settings, arguments: list[str], out: Path) -> None:
        launched.append(arguments)
        out.mkdir(parents=True, exist_ok=True)
        if "--sample_every=0" in arguments:
            rate = 100 * len(launched)
            (out / "speed.jsonl").write_text("".join(f'{{"images": {rate * n}, "seconds": 1}}\n' for n in (1, 2)))
            return
        images = int(arguments[-1].removeprefix("--max_images="))
        (out / "run.json").write_text(json.dumps({"config": {"max_images": images}}))
        if len(launched) == 2:
            raise Ended
        (out / "pretrained").mkdir()

    evaluated: list[Path] = []

    def evaluate(model: Path, *_: object, **__: object) -> argparse.Namespace:
        evaluated.append(model)
        return argparse.Namespace(record={"metrics": {"kid": {"value": 0.5}}})

    monkeypatch.setattr(gpu_parts, "_launch", launch)
    monkeypatch.setattr(hfgen, "evaluate", evaluate)
    settings = gpu_settings.Settings("cpu", "glyphs", tmp_path, toy=False, training_minutes=2)
    with pytest.raises(Ended):
        gpu_parts._train(settings, "gan-cifar10", [])
    for _ in range(2):
        assert gpu_parts._train(settings, "gan-cifar10", []) == {"images": 12_000, "kid": 0.5}
    assert [arguments[-1] for arguments in launched[1:]] == ["--max_images=12000"] * 2
    # Of other minutes it is another run.
    longer = gpu_settings.Settings("cpu", "glyphs", tmp_path, toy=False, training_minutes=4)
    assert gpu_parts._train(longer, "gan-cifar10", [])["images"] > 12_000 and evaluated[-1] != evaluated[0]


def test_what_is_made_once_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks.gpu_settings import made_once

    def ended(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    def whole(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").touch()

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "model", ended)
    for make in (whole, ended):
        made = made_once(tmp_path / "model", make)
        assert [file.name for file in made.iterdir()] == ["weights"]


def test_rows_of_another_kind_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu

    first = argparse.Namespace(out=tmp_path, device="cpu", data="glyphs", toy=True)
    assert gpu._begun_otherwise(first) is None and gpu._begun_otherwise(first) is None
    done = benchmark("gpu", f"--out={tmp_path}", "--device=cpu", "--parts=numbers")
    assert done.returncode == 2 and "begun otherwise (toy is True there, False here); give another" in done.stderr
    other = argparse.Namespace(**{**vars(first), "data": "blobs"})
    assert gpu._begun_otherwise(other) == "data is glyphs there, blobs here"
    monkeypatch.setattr("hfgen.devices.device_name", lambda device: "another card")
    assert gpu._begun_otherwise(first) == "device is cpu there, another card here"
    (tmp_path / "made_by.json").unlink()
    (tmp_path / "rows.jsonl").touch()
    assert gpu._begun_otherwise(first) == "there is no made_by.json beside rows.jsonl"


def test_a_batch_is_halved_where_the_compilers_check_has_no_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import gpu_settings, gpu_speed

    from hfgen.errors import SettingsError

    def measured(settings: object, recipe: str, side: int, mode: str, batch: int, ready: object) -> dict[str, int]:
        if recipe != "vae":
            raise SettingsError("model: there is no such setting")
        if batch > 16:
            raise SettingsError("compiled: torch.compile fails (CUDA out of memory. Tried to allocate 2 GiB)")
        return {"batch": batch}

    monkeypatch.setattr(gpu_speed, "_rate_of_batch", measured)
    settings = gpu_settings.Settings("cpu", "glyphs", Path(), toy=True)
    assert gpu_speed._rate(settings, "vae", 32, "default", 64, lambda: None) == {"batch": 16}
    with pytest.raises(SettingsError, match="no such setting"):
        gpu_speed._rate(settings, "gan", 32, "default", 64, lambda: None)


def test_an_h200_has_a_goal_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks.gpu_speed import _goal

    cards = ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA GH200 480GB")
    assert [_goal("vaegan-imagenet256", 256, card) for card in cards] == [150, 111, 111]
    assert [_goal("vae", side, "cpu") for side in (32, 64)] == [85_000, None]


def in_two_steps(folder: Path, name: str, ready: Callable[[], None]) -> dict[str, float]:
    """Prepared for a while, then timed for a while; `broken` fails before, `killed` ends meanwhile."""
    if name == "broken":
        raise ValueError("out of paper")
    time.sleep(0.2 * len(name))
    (folder / name).touch()
    ready()
    if name == "killed":
        os._exit(1)
    seen, started = len(list(folder.iterdir())), time.time()
    time.sleep(0.3)
    return {"prepared by then": seen, "from": started, "to": time.time()}


def test_rows_are_prepared_at_once_and_timed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks.gpu_turns import InTurn, prepared

    rows = [(name, InTurn(partial(in_two_steps, tmp_path, name))) for name in ("a", "broken", "killed", "last")]
    plain = ("plain", lambda: {"prepared by then": len(list(tmp_path.iterdir()))})
    works = dict(prepared([plain, *rows]))
    assert works["plain"]() == {"prepared by then": 3}
    first, last = works["a"](), works["last"]()
    assert first["prepared by then"] == last["prepared by then"] == 3
    assert first["to"] < last["from"]
    with pytest.raises(RuntimeError, match="ValueError: out of paper"):
        works["broken"]()
    with pytest.raises(RuntimeError, match="ended without a word"):
        works["killed"]()
    # A row alone needs no process.
    ((_, alone),) = prepared(rows[:1])
    assert alone is rows[0][1] and alone()["prepared by then"] == 3


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


def test_a_lost_connection_does_not_end_a_call_of_nohup(tmp_path: Path):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={tmp_path}", "--device=cpu", "--toy"]
    deaf = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with subprocess.Popen([*command, "--parts", "numbers", "--only", "no row"], preexec_fn=deaf) as call:
        while not psutil.Process(call.pid).children():
            assert call.poll() is None
            time.sleep(0.05)
        call.send_signal(signal.SIGHUP)
        assert call.wait(120) == 0
    assert (tmp_path / "table.md").is_file()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
def test_a_call_that_is_ended_ends_its_parts(sent: int, code: int, tmp_path: Path):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "gpu", f"--out={tmp_path}", "--device=cpu", "--toy"]
    # A job in the background is born deaf to Ctrl-C, one of `nohup` to a lost connection.
    heard = partial(signal.signal, sent, signal.SIG_DFL)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heard}
    with subprocess.Popen([*command, "--parts", "tests", "numbers"], **options) as call:
        while len(parts := psutil.Process(call.pid).children()) < 2:
            assert call.poll() is None
            time.sleep(0.05)
        call.send_signal(sent)
        assert call.wait(60) == code and "Traceback" not in call.stderr.read()
    assert not (tmp_path / "rows.jsonl").exists()
    # They would keep the card's memory.
    assert not any(psutil.pid_exists(part.pid) for part in parts)


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
        "tests", "numbers", "compiling", "speed", "evaluation", "gan", "vaegan", "compiling_others", "studies", "sizes",
    ]  # fmt: skip
    left_out = {"compiling": "left out", "compiling_others": "left out"}
    assert {row["part"]: row["state"] for row in found if row["state"] != "measured"} == left_out
    assert len(lines) == len(found)
