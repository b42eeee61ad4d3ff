"""hfgen's training loop against a bare one and against peers' loops, interleaved in one run."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from benchmarks.bare import LOSSES, BareLoop
from benchmarks.diffusers_recipe import DiffusersLoop
from benchmarks.peers import PYTHAE_FAMILIES, pythae_loop
from benchmarks.timing import CLOCKS, Clock, flops_of, matmul_rate, paired_rounds, repeated, seconds_of, steps_for
from hfgen.configs import load_config
from hfgen.data import open_store
from hfgen.devices import choose_device, describe
from hfgen.errors import UserError
from hfgen.images import to_float
from hfgen.kernels import choose_kernels
from hfgen.training.cadence import Cadence
from hfgen.training.trainer import Trainer

SAME, BEST, PEER = 0.95, 0.90, 1.8
"""The least that hfgen's rate may be, over a bare loop's, over the best variant's, and over pythae's."""

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-command's arguments."""
    parser.add_argument("--families", nargs="+", choices=sorted(LOSSES), default=sorted(LOSSES), help="(all)")
    parser.add_argument("--resolutions", nargs="+", type=int, default=[32, 64], help="(32 64)")
    parser.add_argument("--data", default="glyphs", help="DATA (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="paired rounds (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.6, help="length of a loop's turn in a round (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(a GPU where there is one)")
    parser.add_argument("--batch_size", type=int, help="images in a step (the recipe's)")
    help = "wall, or cpu: CPU time of one thread, so that other processes hardly count; no start-up (%(default)s)"
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help=help)
    help = "also try the bare loop in other precisions and memory formats"
    parser.add_argument("--variants", action=argparse.BooleanOptionalAction, default=True, help=help)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; returns the exit code."""
    name = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.clock == "cpu":
        if name != "cpu":
            raise UserError(f"clock: cpu says nothing of {name}; add --device cpu")
        torch.set_num_threads(1)
    device = choose_device(name)
    matmul = matmul_rate(device, CLOCKS[arguments.clock])
    print(f"{describe(device)}, torch {torch.__version__}; bf16 or fp32 matmul: {matmul / 1e9:.0f} GFLOP/s")
    print(f"{arguments.rounds} paired rounds of {arguments.seconds} s a loop by the {arguments.clock} clock")
    print("ratios: median [lowest, highest]")
    columns = ["recipe", "px", "img/s", "of matmul rate", "/ bare, same precision", "/ bare, steps alone"]
    columns += ["/ best bare variant", "/ pythae", "/ diffusers' recipe"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    missed = []
    for family in arguments.families:
        for resolution in arguments.resolutions:
            missed += _compare(family, resolution, arguments, device, matmul)
    if arguments.clock == "wall":
        _print_start_up(arguments, device)
    for line in missed:
        print(f"missed: {line}")
    return 1 if arguments.check and missed else 0


def _print_start_up(arguments: argparse.Namespace, device: torch.device) -> None:
    print("\n| recipe | px | start to first image seen, s | peak memory, MB |\n|---|---|---|---|")
    for family in arguments.families:
        for resolution in arguments.resolutions:
            seconds, megabytes = _start_up(family, resolution, arguments, device)
            print(f"| {family} | {resolution} | {seconds:.1f} | {megabytes:.0f} |", flush=True)


def _compare(
    family: str, resolution: int, arguments: argparse.Namespace, device: torch.device, matmul: float
) -> list[str]:
    """One row of the table; returns the bars that it misses."""
    config, clock = _config(family, resolution, arguments), CLOCKS[arguments.clock]
    store = open_store(config.data, split=config.split, resolution=resolution)
    images = to_float(store.images[:2048]).to(device)
    own = choose_kernels(device)
    with tempfile.TemporaryDirectory() as folder:
        from accelerate import Accelerator

        out = Path(folder)
        trainer = Trainer(config, store, Accelerator(cpu=device.type == "cpu"))
        same = BareLoop(config, images, own.precision, own.memory_format)
        best, best_name = _best(config, images, own, clock) if arguments.variants else (None, "")
        loops: dict[str, Callable[[int], None]] = {"hfgen": repeated(trainer.step), "bare": repeated(same.step)}
        if best is not None:
            loops["best"] = repeated(best.step)
        loops |= _peers(config, trainer, images, out)
        count = steps_for(arguments.seconds, same.step, device, clock)
        seconds = paired_rounds(loops, count, arguments.rounds, device, clock)
        around = _seconds_around(Cadence(trainer, out), clock) * count * config.batch_size
        flops = flops_of(same.step) * count
    hfgen = [value + around for value in seconds["hfgen"]]
    rate = count * config.batch_size / statistics.median(hfgen)
    ratios = {name: [v / h for v, h in zip(seconds[name], hfgen, strict=True)] for name in loops if name != "hfgen"}
    if arguments.variants:
        ratios.setdefault("best", ratios["bare"])
    within = [v / h for v, h in zip(seconds["bare"], seconds["hfgen"], strict=True)]
    cells = [_cell(ratios["bare"]), _cell(within)]
    cells.append(f"{_cell(ratios['best'])} ({best_name})" if "best" in ratios else "not compared")
    cells += [_cell(ratios[name]) if name in ratios else "not compared" for name in ("pythae", "diffusers")]
    share = flops / statistics.median(hfgen) / matmul
    print(f"| {family} | {resolution} | {rate:.0f} | {share:.0%} | {' | '.join(cells)} |", flush=True)
    return [
        f"{family} at {resolution} px is {statistics.median(ratios[name]):.2f} of {name}, not {bar}"
        for name, bar in {"bare": SAME, "best": BEST, "pythae": PEER}.items()
        if name in ratios and statistics.median(ratios[name]) < bar
    ]


def _config(family: str, resolution: int, arguments: argparse.Namespace) -> Any:
    overrides = [f"--data={arguments.data}", f"--resolution={resolution}", "--max_images=100000000"]
    if family == "vaegan":
        overrides += ["--model.adversarial_begin=0", "--model.adversarial_warmup=0"]
    if arguments.batch_size:
        overrides.append(f"--batch_size={arguments.batch_size}")
    return load_config(f"{family}-glyphs", overrides)


def _peers(config: Any, trainer: Trainer, images: Tensor, out: Path) -> dict[str, Callable[[int], None]]:
    """The loops of others that train the same autoencoder, on a CPU."""
    loops: dict[str, Callable[[int], None]] = {}
    if images.device.type == "cpu" and config.family in PYTHAE_FAMILIES and find_spec("pythae"):
        loops["pythae"] = pythae_loop(config, images, out / "pythae").steps
    # Of smaller images its discriminator leaves no score.
    if images.device.type == "cpu" and config.family == "vaegan" and config.resolution >= 32:
        theirs = DiffusersLoop(dict(trainer.networks["vae"].config))  # type: ignore[arg-type]

        def step() -> None:
            theirs.step(images[torch.randint(len(images), (config.batch_size,))], adversarial=True)

        loops["diffusers"] = repeated(step)
    return loops


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _best(config: Any, images: Tensor, own: Any, clock: Clock) -> tuple[BareLoop | None, str]:
    """The fastest other precision and memory format by a short trial; None where hfgen's own choice is."""
    found: dict[str, BareLoop] = {}
    fastest = math.inf
    for precision in (own.precision, *{"fp32", "bf16"} - {own.precision}):
        for name, layout in _LAYOUTS.items():
            loop = BareLoop(config, images, precision, layout)
            first = min(seconds_of(loop.step, images.device, clock) for _ in range(2))
            if first < 3 * fastest:  # emulated bf16 would take minutes
                found[f"{precision}, {name}"] = loop
                fastest = min(first, fastest)
    trials = paired_rounds({name: repeated(loop.step) for name, loop in found.items()}, 4, 5, images.device, clock)
    name = min(found, key=lambda key: statistics.median(trials[key]))
    mine = f"{own.precision}, {next(key for key, value in _LAYOUTS.items() if value == own.memory_format)}"
    return (None if name == mine else found[name]), name


def _seconds_around(cadence: Cadence, clock: Clock) -> float:
    """Seconds an image that logs, sample grids and checkpoints take at their normal cadence."""
    trainer, config = cadence.trainer, cadence.config
    if config.sample_every != config.checkpoint_every:
        raise ValueError("a grid and a checkpoint that fall together share a pipeline; this recipe's don't")

    def draw_and_save() -> None:
        pipeline = cadence.pipeline()
        cadence.draw(pipeline)
        cadence.write_checkpoint(pipeline)

    total = 0.0
    for act, every in ((cadence.log, config.log_every), (draw_and_save, config.checkpoint_every)):
        trainer.step()
        total += statistics.median(seconds_of(act, trainer.device, clock) for _ in range(3)) / every
    return total


def _start_up(family: str, resolution: int, arguments: argparse.Namespace, device: torch.device) -> tuple[float, float]:
    """Seconds from the command to the first image seen, and the run's peak memory in MB, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), f"{family}-glyphs", f"--out={out}"]
        command += [f"--data={arguments.data}", f"--resolution={resolution}", "--log_every=1"]
        batch = _config(family, resolution, arguments).batch_size
        command += [f"--max_images={20 * batch}", f"--batch_size={batch}", f"--device={device.type}"]
        started, peak = time.time(), 0
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            # Not the child's own account, which begins with the memory of the process that started it.
            with contextlib.suppress(psutil.Error):
                peak = max(peak, process.memory_info().rss)
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        first = json.loads((out / "speed.jsonl").read_text().splitlines()[0])
        seconds = (out / "run.json").stat().st_mtime - started + first["seconds"]
    return seconds, peak / 2**20
