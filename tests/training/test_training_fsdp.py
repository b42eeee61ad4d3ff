"""FSDP by two real processes on CPUs: the same weights, in shares, from and into the same checkpoints.

Run by `accelerate launch` instead of pytest, this file is the worker that trains.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import forks
import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY, tiny_config
from torch import Tensor
from trainings import FEW_STEPS, assert_learnt_alike

from hfgen.imports import without_collector

FSDP = ["-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version=2", "--num_processes=2"]
FSDP.append("--main_process_port=0")
# One phase, two, two after each other, and all of them with codes and a prior.
RESUMED = ("vae", "gan", "flow", "vqgan")


@pytest.fixture(scope="module")
def runs(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each family's runs: `one` process, `fsdp`; and of some, what resumed the other's start: `to_one`, `to_fsdp`."""
    try:
        return _runs(glyph_folder, tmp_path_factory.mktemp("fsdp"))
    except AssertionError as error:
        # A segmentation fault in gloo's own thread (`gloo_tcp_loop`) was seen once in torch 2.13.
        if "(SIGSEGV)" not in str(error):
            raise
        return _runs(glyph_folder, tmp_path_factory.mktemp("fsdp"))


def _runs(glyph_folder: Path, folder: Path) -> Path:
    families = {"one": TINY, "fsdp": TINY, "to_one": RESUMED, "to_fsdp": RESUMED}
    outs = {name: [folder / name / family for family in families[name]] for name in families}
    _fork(glyph_folder, outs["one"])
    _keep_start(folder / "one", folder / "to_fsdp")
    _launch(glyph_folder, [*outs["fsdp"], *outs["to_fsdp"]])
    _keep_start(folder / "fsdp", folder / "to_one")
    _fork(glyph_folder, outs["to_one"])
    return folder


def _fork(data: Path, outs: list[Path]) -> None:
    log = outs[0].with_name("log.txt")
    log.parent.mkdir(exist_ok=True)
    process = forks.start(_train, (data, outs), {**os.environ, "ACCELERATE_USE_CPU": "true"}, log, log)
    process.join()
    assert process.exitcode == 0, log.read_text()


def _launch(data: Path, outs: list[Path]) -> None:
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": ":".join(path)}
    command = [sys.executable, *FSDP, __file__, str(data), *map(str, outs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _keep_start(source: Path, copy: Path) -> None:
    for family in RESUMED:
        shutil.copytree(source / family, copy / family)
        shutil.rmtree(copy / family / "pretrained")
        shutil.rmtree(copy / family / "checkpoints" / "000000000048")


def _train(data: Path, outs: list[Path]) -> None:
    """What each process does: train, and write down what it holds in the end."""
    # Threads are fixed, since the order of sums depends on their number.
    torch.set_num_threads(1)
    with without_collector(freeze=True):
        from hfgen.training.train import train
        from hfgen.training.trainer import Trainer

    held = []
    step = Trainer.step

    def noted(trainer: Trainer) -> None:
        step(trainer)
        moments = [entry[key] for o in trainer.optimizers.values() for entry in o.state.values() for key in _MOMENTS]
        weights, averages = (
            [parameter for network in networks.values() for parameter in network.parameters()]
            for networks in (trainer.networks, trainer.averages)
        )
        held[:] = [_bytes(weights), _bytes(averages), _bytes(moments)]

    Trainer.step = noted
    for out in outs:
        train(tiny_config(out.name, data, *FEW_STEPS), out)
        (out / f"held.{os.environ.get('RANK', 0)}.json").write_text(json.dumps(held))


_MOMENTS = ("exp_avg", "exp_avg_sq")


def _bytes(tensors: Iterable[Tensor]) -> int:
    """The memory behind this process's part of the tensors."""
    from hfgen.training.fsdp import local

    memories = (local(tensor).untyped_storage() for tensor in tensors)
    return sum({memory.data_ptr(): memory.nbytes() for memory in memories}.values())


def assert_same_end(runs: Path, name: str, family: str) -> None:
    """A run ends as the run in one process did: the same files, and weights that differ by little of their moves."""
    one, other = runs / "one" / family, runs / name / family
    assert _files(one) == _files(other)
    for path in sorted((one / "checkpoints" / "000000000048" / "training_state").glob("*.safetensors")):
        first, second = load_file(path), load_file(other / path.relative_to(one))
        assert {key: value.shape for key, value in first.items()} == {key: v.shape for key, v in second.items()}
    assert_learnt_alike(other, one, family)


def _files(out: Path) -> list[Path]:
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.stem[:4] != "held")


def _processes(out: Path) -> list[int]:
    return [json.loads(line)["processes"] for line in (out / "speed.jsonl").open()]


@pytest.mark.parametrize(
    ("name", "family", "processes"),
    [
        *(("fsdp", family, [2, 2, 2]) for family in sorted(TINY)),
        *(("to_one", family, [2, 2, 1]) for family in RESUMED),
        *(("to_fsdp", family, [1, 1, 2]) for family in RESUMED),
    ],
)
def test_shares_learn_what_one_process_learns(name: str, family: str, processes: list[int], runs: Path):
    assert_same_end(runs, name, family)
    assert _processes(runs / name / family) == processes


@pytest.mark.parametrize("name", ["fsdp", "to_fsdp"])
def test_each_process_holds_half(name: str, runs: Path):
    (whole,) = (json.loads(path.read_text()) for path in (runs / "one" / "vae").glob("held.*"))
    shares = [json.loads(path.read_text()) for path in sorted((runs / name / "vae").glob("held.*"))]
    assert len(shares) == 2
    for held in shares:
        assert all(0.49 < part / all_of_it < 0.51 for part, all_of_it in zip(held, whole, strict=True)), (held, whole)


def test_fsdp_needs_processes(monkeypatch: pytest.MonkeyPatch):
    """Other kinds of FSDP are refused with the launcher's other settings: test_training_launcher."""
    from hfgen.training.fsdp import asked

    assert not asked()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert asked()
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _train(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
