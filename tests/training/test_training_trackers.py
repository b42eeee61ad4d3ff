"""Trackers, compilation and the device's choices: optional, and never in the way."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_config

from hfgen.data import open_store
from hfgen.data.feed import to_gpu_if_it_fits
from hfgen.errors import UserError
from hfgen.kernels import choose_kernels
from hfgen.training.meters import Meters, Reading
from hfgen.training.trackers import Trackers, make_accelerator
from hfgen.training.train import train


def test_tensorboard_gets_the_lines_of_the_log(glyph_folder: Path, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_config("vae", glyph_folder, "--log_with=tensorboard"), tmp_path / "run")
    (folder,) = {path.parent for path in (tmp_path / "run" / "trackers").rglob("events.*")}
    events = EventAccumulator(str(folder)).Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [event.step for event in events.Scalars("vae/mse")] == [line["images"] for line in lines]
    written = [event.value for event in events.Scalars("vae/mse")]
    assert written == pytest.approx([line["vae/mse"] for line in lines])


def test_a_tracker_that_is_missing_or_fails_only_warns(
    glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from accelerate.tracking import get_available_trackers

    missing = next(name for name in ("trackio", "wandb") if name not in map(str, get_available_trackers()))
    train(tiny_config("vae", glyph_folder, f"--log_with={missing}"), tmp_path / "missing")
    assert f"log_with: {missing} isn't installed; `pip install {missing}`" in caplog.text

    config = tiny_config("vae", glyph_folder, "--log_with=tensorboard")
    # Where the tracker wants its folder there is a file.
    (tmp_path / "trackers").write_text("in the way")
    trackers = Trackers(make_accelerator(config, tmp_path))
    trackers.log(config, tmp_path, {"loss": 1.0}, 32)
    assert "log_with: tensorboard failed" in caplog.text and "log.jsonl goes on" in caplog.text
    caplog.clear()
    trackers.log(config, tmp_path, {"loss": 1.0}, 64)
    trackers.close()
    assert not caplog.text


def test_what_is_chosen_follows_what_is_asked(glyph_folder: Path):
    cpu = torch.device("cpu")
    assert choose_kernels(cpu, "bf16").precision == "bf16"
    assert choose_kernels(cpu, "fp32", "default").compiled == "default"
    assert choose_kernels(cpu).compiled == "off"
    assert choose_kernels(cpu, "bf16").memory_format == torch.contiguous_format
    assert str(choose_kernels(cpu, "fp32")).endswith("fp32, channels_last, no torch.compile, fused AdamW")
    store = open_store(str(glyph_folder), resolution=16)
    assert to_gpu_if_it_fits(store, cpu) is store


def test_meters_add_up_over_steps_and_processes():
    shares = [Meters(), Meters()]
    for step, values in enumerate(((1.0, 3.0), (float("inf"), 5.0), (2.0, float("nan")))):
        for meters, value in zip(shares, values, strict=True):
            meters.add({"loss": torch.tensor(value)}, step)
    rows = torch.stack([meters.state(lambda rows: rows)["loss"] for meters in shares], 1)
    reading = shares[0].read(lambda _: rows)["loss"]
    assert reading.mean == pytest.approx((1 + 3 + 5 + 2) / 4)
    assert (reading.nonfinite, reading.first_step) == (2, 1)


def test_meters_of_many_steps_know_each_terms_own_and_the_first_that_is_not_finite():
    """More steps than wait at most; a penalty comes at each eighth."""
    meters = Meters()
    for step in range(200):
        terms = {"loss": torch.tensor(float(step) if step != 150 else torch.nan, dtype=torch.bfloat16).double()}
        if step % 8 == 0:
            terms["penalty"] = torch.tensor(torch.inf if step in (16, 160) else 2.0)
        meters.add(terms, step)
        # What is added may be overwritten, as the outputs of CUDA graphs are.
        for value in terms.values():
            value.zero_()
    read = meters.read(lambda rows: rows)
    exact = [float(torch.tensor(float(step)).bfloat16()) for step in range(200) if step != 150]
    assert read["loss"] == Reading(pytest.approx(sum(exact) / 199), 1, 150)
    assert read["penalty"] == Reading(pytest.approx(2.0), 2, 16)
    meters.clear()
    assert meters.read(lambda rows: rows) == {}


@pytest.mark.parametrize("saved_at", [1, 37, 63, 64, 100, 130])
def test_meters_that_were_saved_between_two_lines_give_the_same_bits(saved_at: int, tmp_path: Path):
    values = torch.rand(150, 2, generator=torch.Generator().manual_seed(0)).unbind()

    def add(meters: Meters, steps: range) -> None:
        for step in steps:
            terms = dict(zip(("vae/loss", "vae/kl"), values[step], strict=True))
            if step % 3 == 0:
                terms["vae/a penalty"] = values[step][0] * 3
            if step > 75:
                meters.add({"vae/early": values[step][1], **terms}, step)
            meters.add(terms, step)

    whole, before, after = Meters(), Meters(), Meters()
    add(whole, range(150))
    add(before, range(saved_at))
    # A checkpoint's own look at the terms.
    before.read(lambda rows: rows)
    save_file(before.state(lambda rows: rows), tmp_path / "log.safetensors")
    after.load(load_file(tmp_path / "log.safetensors"), torch.device("cpu"), 0, 1)
    for resumed in (before, after):
        add(resumed, range(saved_at, 150))
        assert resumed.read(lambda rows: rows) == whole.read(lambda rows: rows)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_meters_of_two_processes_go_on_in_any_number_of_them(processes: int):
    saved = {"loss": torch.tensor([[4.0, 2.0, 0.0, torch.inf], [2.0, 1.0, 1.0, 5.0]])}
    shares = [Meters() for _ in range(processes)]
    for rank, meters in enumerate(shares):
        meters.load(saved, torch.device("cpu"), rank, processes)
        meters.add({"loss": torch.tensor(3.0)}, 7)
    rows = torch.cat([meters.state(lambda rows: rows)["loss"] for meters in shares])
    if processes == 2:
        assert rows.tolist() == [[7.0, 3.0, 0.0, torch.inf], [5.0, 2.0, 1.0, 5.0]]
    reading = shares[0].read(lambda _: rows)["loss"]
    assert reading == Reading(pytest.approx((4 + 2 + 3 * processes) / (3 + processes)), 1, 5)


@pytest.mark.slow
def test_compiled_networks_learn_what_eager_ones_learn_or_are_refused(family: str, glyph_folder: Path, tmp_path: Path):
    lines = []
    for mode in ("off", "default"):
        config = tiny_config(family, glyph_folder, f"--compiled={mode}", "--precision=fp32")
        try:
            train(config, tmp_path / mode)
        except UserError as error:
            # Inductor of torch 2.13 loses gradients of some of these networks on CPUs.
            assert mode == "default" and "off the eager one; use --compiled off" in str(error)
            return
        lines.append(json.loads((tmp_path / mode / "log.jsonl").read_text().splitlines()[0]))
    eager, compiled = lines
    assert all(compiled[key] == pytest.approx(eager[key], rel=1e-2, abs=1e-3) for key in eager)
