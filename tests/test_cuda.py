"""Train, resume, evaluate, compile and share a run on a real GPU; the same bodies on the CPU, so that they are tried.

`pytest -m cuda` runs what needs a GPU, and skips it with a reason where torch can use none.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import FEW_STEPS, Training, assert_learnt_alike, tiny_arguments

from hfgen.cli import main
from hfgen.documents import RECORD

CARDS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cuda(cards: int = 1) -> Any:
    """The parameter `cuda`, for tests that need so many cards."""
    reason = f"{cards} GPUs that torch can use are needed, and {CARDS} are here" if cards > 1 else "no GPU for torch"
    return pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(cards > CARDS, reason=reason)])


EITHER = pytest.mark.parametrize("device", ["cpu", _cuda()])


def _each(*families: str) -> pytest.MarkDecorator:
    """Every family on the GPU, and the last on the CPU: that its others work has tests of its own."""
    pairs = [pytest.param(family, *each.values, marks=each.marks) for family in families for each in [_cuda()]]
    return pytest.mark.parametrize(("family", "device"), [(families[-1], "cpu"), *pairs])


def _train(family: str, data: Path, out: Path, device: str, *more: str, processes: int = 1) -> Path:
    """A run in processes of its own: Accelerate chooses a process's device once and for all."""
    variables = {"ACCELERATE_USE_CPU": "true" if device == "cpu" else "false"}
    arguments = tiny_arguments(family, data, out, *FEW_STEPS, *more)
    Training(arguments, processes, variables=variables).finish()
    return out


def _log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@_each("vae", "vqgan", "gan")
def test_a_run_resumes_as_if_it_had_not_stopped(family: str, device: str, glyph_folder: Path, tmp_path: Path):
    whole = _train(family, glyph_folder, tmp_path / "whole", device, "--compiled=off")
    stopped = shutil.copytree(whole, tmp_path / "stopped")
    # As a kill after the first checkpoint leaves it.
    shutil.rmtree(stopped / "pretrained")
    shutil.rmtree(max((stopped / "checkpoints").iterdir()))
    _train(family, glyph_folder, stopped, device, "--compiled=off")
    assert [line["images"] for line in _log(stopped)] == [line["images"] for line in _log(whole)]
    # A GPU's sums aren't in one order: alike, not equal.
    assert_learnt_alike(stopped, whole, family)


@EITHER
def test_a_gpu_learns_what_a_cpu_learns(device: str, glyph_folder: Path, tmp_path: Path):
    here = _train("vae", glyph_folder, tmp_path / "here", "cpu", "--compiled=off")
    there = _train("vae", glyph_folder, tmp_path / "there", device, "--compiled=off")
    first, other = _log(here)[0], _log(there)[0]
    # The noise is the device's own; the images, the weights and the schedule are the same.
    assert first.keys() == other.keys()
    assert other["vae/mse"] == pytest.approx(first["vae/mse"], rel=0.1)


@_each("gan", "vqvae", "vae")
def test_an_evaluation_says_what_the_cpus_says(family: str, device: str, glyph_folder: Path, tmp_path: Path):
    run = _train(family, glyph_folder, tmp_path / "run", "cpu")
    records = {}
    for name in ("cpu", device):
        out = tmp_path / f"on-{name}"
        assert main(["evaluate", str(run), f"--data={glyph_folder}", "--n=40", f"--out={out}", f"--device={name}"]) == 0
        records[name] = RECORD.read(out / "record.json")
        # Bit for bit, on the device that the record names.
        assert main(["evaluate", "--verify", str(out)]) == 0
    assert records[device]["protocol"]["device"].startswith(device)
    for name, entry in records["cpu"]["metrics"].items():
        there = records[device]["metrics"][name]
        reach = entry["high"] - entry["low"]
        # Well within the interval: rounding moves a level here and there, and a neighbour at a tie.
        assert there["value"] == pytest.approx(entry["value"], rel=0.02, abs=0.25 * reach + 1e-3), name


@EITHER
def test_half_precision_is_measured(device: str, glyph_folder: Path, tmp_path: Path):
    run = _train("vae", glyph_folder, tmp_path / "run", "cpu")
    out = tmp_path / "out"
    arguments = [f"--data={glyph_folder}", "--n=40", f"--out={out}", f"--device={device}", "--dtype=bf16"]
    assert main(["evaluate", str(run), *arguments]) == 0
    assert RECORD.read(out / "record.json")["protocol"]["dtype"] == "bf16"


@EITHER
@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_diagnosis_runs(
    family: str, device: str, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from hfgen.diagnosis.budgets import BUDGETS, Budget

    monkeypatch.setitem(BUDGETS, "small", Budget(images=24, latent_steps=1, refit_steps=1, batch=24))
    run = _train(family, glyph_folder, tmp_path / "run", "cpu")
    out = tmp_path / "out"
    assert main(["diagnose", str(run), f"--data={glyph_folder}", f"--out={out}", f"--device={device}"]) == 0
    assert (out / "waterfall.png").is_file()


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), _cuda()])
@pytest.mark.parametrize("family", ["vae", "vqgan", "gan"])
def test_compiled_networks_learn_what_eager_ones_learn(family: str, device: str, glyph_folder: Path, tmp_path: Path):
    logs = []
    for mode in ("off", "auto" if device == "cuda" else "default"):
        logs.append(_log(_train(family, glyph_folder, tmp_path / mode, device, f"--compiled={mode}")))
    eager, compiled = (log[0] for log in logs)
    assert compiled.keys() == eager.keys()
    assert all(compiled[key] == pytest.approx(eager[key], rel=2e-2, abs=1e-2) for key in eager)


@pytest.mark.parametrize("device", ["cpu", _cuda(2)])
def test_two_processes_learn_what_one_learns(device: str, glyph_folder: Path, tmp_path: Path):
    one = _train("gan", glyph_folder, tmp_path / "one", device, "--compiled=off")
    two = _train("gan", glyph_folder, tmp_path / "two", device, "--compiled=off", processes=2)
    assert_learnt_alike(two, one, "gan")


@EITHER
def test_batches_reach_the_device(device: str, glyph_folder: Path):
    from hfgen.data import batch_indices, open_store
    from hfgen.data.feed import Feed

    store = open_store(str(glyph_folder), resolution=16)
    with Feed(store, 12, 7, torch.device(device)) as feed:
        for seen in (0, 12, 24):
            images, labels = feed.batch(seen)
            rows = batch_indices(len(store), seen, 12, 7)
            assert images.device.type == device and torch.equal(images.cpu(), store.images[rows])
            assert torch.equal(labels.cpu(), store.labels[rows])
