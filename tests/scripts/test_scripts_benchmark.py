"""The bare loops do the same work as the families: otherwise their ratio would say nothing."""

import dataclasses
import json
import math
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import benchmark
from tiny import tiny_config

from hfgen.configs import load_config
from hfgen.images import to_float
from hfgen.training.train import open_data
from hfgen.training.trainer import Trainer

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Of these families there are bare loops.
BARE = pytest.mark.parametrize("family", ["vae", "vqvae", "gan", "vaegan"])


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import bare

    return bare


def test_the_help_names_every_benchmark():
    done = benchmark("--help")
    assert done.returncode == 0 and "quality" in done.stdout and " %" in done.stdout, done.stderr


def test_every_bare_loop_is_tested(bare):
    assert bare.LOSSES.keys() == set(BARE.args[1])


@BARE
def test_the_bare_loss_is_the_familys(family: str, glyph_folder: Path, bare):
    from hfgen.training.phases import Draws, Step

    if family not in bare.LOSSES:
        pytest.skip("no bare loop of this family")

    begun = ["--model.adversarial_begin=0", "--model.adversarial_warmup=0"] if family == "vaegan" else []
    config = tiny_config(family, glyph_folder, *begun)
    torch.manual_seed(0)
    nets = config.model.build(16, 1)
    images = torch.rand(8, 1, 16, 16) * 2 - 1
    step = Step(images, None, Draws(0, 0, torch.device("cpu")), nets, index=0, progress=0.5)
    draws = Draws(0, 0, torch.device("cpu"))
    losses = bare.LOSSES[family](nets, images, config.model, 0, lambda like: draws.normal(tuple(like.shape)))
    phases = {phase.trains[0]: phase for phase in config.model.phases()}
    compared = 0
    for name, loss in losses:
        expected = phases[name].loss(nets, step).total
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared == (1 if family in ("vae", "vqvae") else 2)


@BARE
def test_a_bare_step_moves_every_network(family: str, glyph_folder: Path, bare):
    if family not in bare.LOSSES:
        pytest.skip("no bare loop of this family")
    config = tiny_config(family, glyph_folder)
    loop = bare.BareLoop(config, torch.rand(32, 1, 16, 16), "fp32", torch.contiguous_format)
    before = {name: [p.detach().clone() for p in loop.nets[name].parameters()] for name in loop.nets}
    loop.step()
    for name in loop.nets:
        moved = any(
            not torch.equal(old, new) for old, new in zip(before[name], loop.nets[name].parameters(), strict=True)
        )
        assert moved == (name not in ("prior", "codebook"))


def test_the_roofline_counts_every_flop_and_byte(bare):
    from benchmarks import roofline

    images, weights = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.zeros(4, 3, 3, 3, requires_grad=True)
    with roofline._Kernels() as seen:
        output = torch.nn.functional.conv2d(images, weights, padding=1)
        torch.nn.functional.silu(output).sum().backward()
    flops = 2 * 2 * 8 * 8 * 4 * 3 * 9
    assert seen.rows["convolutions, forward"][1:] == [flops, images.nbytes + weights.nbytes + output.nbytes]
    # The gradients of the images and of the weights.
    assert seen.rows["convolutions, backward"][1] == 2 * flops
    assert seen.rows["activations"][2] == (2 + 3) * output.nbytes
    assert all(row[0] >= 0 for row in seen.rows.values())


def test_a_step_is_split_into_kernels(bare):
    from benchmarks import roofline

    rows = roofline.kernels("vae", 16, 4)
    assert {"convolutions, forward", "convolutions, backward", "normalisation", "update"} < rows.keys()
    assert rows["convolutions, backward"][1] > rows["convolutions, forward"][1]


def test_what_a_recipe_exchanges_is_what_it_trains(bare):
    from benchmarks import processes

    gradients, held = processes.sizes("vae-glyphs")
    network = load_config("vae-glyphs").model.build(32, 1)["vae"]
    assert gradients == pytest.approx(4e-6 * sum(weight.numel() for weight in network.parameters()))
    assert held == pytest.approx(4 * gradients) and processes.ring(gradients, 2) == gradients


def test_imports_are_timed_without_the_modules_that_they_import(bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from benchmarks import startup

    (tmp_path / "outer_one").mkdir()
    (tmp_path / "outer_one" / "__init__.py").write_text("import outer_one.part, outer_two")
    (tmp_path / "outer_one" / "part.py").write_text("")
    (tmp_path / "outer_two.py").write_text("sum(i * i for i in range(10**6))")
    monkeypatch.syspath_prepend(tmp_path)
    timed = startup.TimedImports()
    monkeypatch.setattr(sys, "meta_path", [timed, *sys.meta_path])
    __import__("outer_one")
    (one, modules), (two, _) = timed.rows["outer_one"], timed.rows["outer_two"]
    assert modules == 2 and two > 10 * one >= 0


def test_what_training_imports_is_counted_by_package(bare):
    from benchmarks import startup

    found = startup.packages()
    assert found.keys() >= {"torch", "diffusers", "transformers", "hfgen"}
    assert all(seconds >= 0 and modules >= 1 for seconds, modules in found.values())


def test_diffusers_loop_stands_beside_the_vaegans(glyph_folder: Path, tmp_path: Path, bare):
    from accelerate import Accelerator
    from benchmarks import train

    config = tiny_config("vaegan", glyph_folder, "--resolution=32", "--small_images=upscale")
    store = open_data(config)
    trainer, images = Trainer(config, store, Accelerator(cpu=True)), to_float(store.images[:64])
    loops = train._peers(config, trainer, images, tmp_path)
    assert loops.keys() == {"diffusers"}
    loops["diffusers"](2)
    assert train._peers(dataclasses.replace(config, resolution=16), trainer, images, tmp_path) == {}


def test_waiting_costs_no_cpu_time(bare):
    from benchmarks import timing

    cpu = torch.device("cpu")
    waited = [timing.seconds_of(lambda: time.sleep(0.2), cpu, timing.CLOCKS[name]) for name in ("wall", "cpu")]
    assert waited[0] >= 0.2 > 10 * waited[1]


def test_cpu_time_is_refused_of_a_gpu():
    done = benchmark("train", "--clock", "cpu", "--device", "cuda")
    assert done.returncode == 2 and "--device cpu" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_refused_in_a_line():
    done = benchmark("train", "--device", "cuda")
    assert done.returncode == 2 and "device: cuda isn't available" in done.stderr and "Traceback" not in done.stderr


def one_fails(data: str, resolution: int, rank: int, workers: int, barrier: Any, queue: Any) -> None:
    """A worker of a stream: the first waits for the second, which fails."""
    if rank:
        raise ValueError("out of paper")
    barrier.wait()


def test_a_worker_of_a_stream_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks import streams

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(streams, "_work", one_fails)
    with pytest.raises(SystemExit, match="a worker failed"):
        streams._run("glyphs", 16, 2, {})
    assert set(multiprocessing.active_children()) == before


def test_steps_are_measured_in_processes_that_exchange_gradients():
    # Its processes have processes of their own, which the tests' may not.
    command = [sys.executable, SCRIPTS / "benchmark.py", "processes", "--steps", "5", "--recipes", "vae-glyphs"]
    done = subprocess.run([*command, "--processes", "1", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    header, _, one, two = ([cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines())
    assert one[:3] == ["vae-glyphs", "1", "0.0"] and set(one[5:]) == {"-"} and len(one) == len(two) == len(header)
    # Half the images each.
    assert 0.4 < float(two[3]) / float(one[3]) < 0.9
    assert float(two[2]) == 5.0 and float(two[5]) > 0


def test_the_command_prints_its_table(glyph_folder: Path):
    command = ["train", "--families", "vae", "--resolutions", "16", "--rounds", "2", "--seconds", "0.05"]
    done = benchmark(*command, "--batch_size", "8", f"--data={glyph_folder}")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| vae | 16 |")]
    assert len(rows) == 2 and rows[0].count("[") >= 2


def test_the_table_of_steps_has_a_row_for_the_vae_and_for_each_number(tmp_path: Path, glyph_folder: Path):
    model = tiny_config("flow", glyph_folder).model
    torch.manual_seed(0)
    model.pipeline(model.build(16, 1)).save_pretrained(tmp_path / "model")
    command = ["flow", tmp_path / "model", "--n=40", f"--data={glyph_folder}", "--steps", "1", "2"]
    printed = benchmark(*command, f"--out={tmp_path / 'out'}")
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| the VAE's", "| flow, 1 step", "| flow, 2 steps"]
    rows = json.loads((tmp_path / "out" / "flow.json").read_text())
    assert all(row["cost"] > 0 and row["metrics"].keys() >= {"psnr", "kid"} for row in rows)


def test_the_table_of_priors_has_a_known_likelihood(tmp_path: Path, glyph_folder: Path):
    model = tiny_config("vqvae", glyph_folder).model
    torch.manual_seed(0)
    networks = model.build(16, 1)
    model.pipeline(networks).save_pretrained(tmp_path / "random")
    # The embedding is the last layer, too: all codes are equally likely.
    torch.nn.init.zeros_(networks["prior"].transformer.wte.weight)
    model.pipeline(networks).save_pretrained(tmp_path / "uniform")
    command = ["prior", tmp_path / "random", tmp_path / "uniform", "--n=40", f"--data={glyph_folder}"]
    printed = benchmark(*command, f"--out={tmp_path / 'out'}")
    assert printed.returncode == 0, printed.stderr
    random, uniform = json.loads((tmp_path / "out" / "prior.json").read_text()).values()
    for name in ("nll_training", "nll_held_out"):
        assert uniform[name]["value"] == pytest.approx(math.log(16)) != pytest.approx(random[name]["value"])
    assert len(printed.stdout.splitlines()) == 4 and 0 <= uniform["independent_coverage"]["value"] <= 1


def test_a_model_without_a_prior_of_codes_is_refused(tmp_path: Path, glyph_folder: Path):
    model = tiny_config("vae", glyph_folder).model
    model.pipeline(model.build(16, 1)).save_pretrained(tmp_path / "model")
    done = benchmark("prior", tmp_path / "model", f"--data={glyph_folder}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2 and "is a vae, which has no prior of codes; give a VQ-VAE" in done.stderr
    assert "Traceback" not in done.stderr


def test_priors_that_cannot_be_compared_are_refused(tmp_path: Path, glyph_folder: Path):
    model, by_class = (
        tiny_config("vqvae", glyph_folder, f"--model.conditional={on}").model for on in ("false", "true")
    )
    networks = model.build(16, 1)
    model.pipeline(networks).save_pretrained(tmp_path / "small")
    model.pipeline(model.build(32, 1)).save_pretrained(tmp_path / "large")
    by_class.pipeline(by_class.build(16, 1, 3)).save_pretrained(tmp_path / "by_class")
    networks["vqvae"].save_pretrained(tmp_path / "bare")
    refusals = {"large": "compare equal ones", "by_class": "draws by class", "bare": "has no prior of codes"}
    for name, said in refusals.items():
        done = benchmark("prior", tmp_path / "small", tmp_path / name, f"--data={glyph_folder}", f"--out={tmp_path}")
        assert done.returncode == 2 and said in done.stderr, done.stderr
