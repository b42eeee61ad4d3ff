"""One recipe in 1, 2, ... processes on the CPUs of this machine: images/s, and the gradients that they exchange.

The cores are shared among the processes, so that on one machine the ideal is the same rate for any number of them.
`--steps` measures steps by CPU time instead, where the machine is busy or has fewer cores than processes. `--sizes`
runs nothing: it counts what each recipe exchanges and holds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Of a conditional recipe; an embedding of classes weighs little.
_CLASSES = 10
_LINKS = {"1 Gbit/s": 125.0, "10 Gbit/s": 1250.0, "25 GB/s": 25_000.0}
"""MB/s of links that gradients may cross: an office's network, a machine room's, PCIe 4."""

_SCRIPT = str(Path(__file__).parents[1] / "train.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--recipes", nargs="+", default=["vae-glyphs"], help="(vae-glyphs)")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="(1 2)")
    parser.add_argument("--max_images", type=int, default=4000, help="images that a run sees (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="measure so many steps by CPU time, instead of runs")
    parser.add_argument("--sizes", action="store_true", help="count weights and gradients of every recipe, instead")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    if arguments.sizes:
        _print_sizes()
        return 0
    if arguments.steps:
        _print_steps(arguments)
        return 0
    print("| recipe | processes | threads each | img/s: median [lowest, highest] | MB that each sends in a step |")
    print("|---|---|---|---|---|")
    for recipe in arguments.recipes:
        rates: dict[int, list[float]] = {count: [] for count in arguments.processes}
        for _ in range(arguments.rounds):
            for count in rates:
                rates[count].append(_rate(recipe, arguments.max_images, count))
        megabytes = gradient_megabytes(recipe)
        for count, values in rates.items():
            spread = f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"
            print(f"| {recipe} | {count} | {_threads(count)} | {spread} | {ring(megabytes, count):.1f} |", flush=True)
    return 0


def _print_steps(arguments: argparse.Namespace) -> None:
    """A row a recipe and number of processes: measured CPU times, and what they say of processes with a core each."""
    from benchmarks.process_steps import measure
    from hfgen.configs import load_config
    from hfgen.data import open_store

    columns = ["recipe", "processes", "MB sent", "step, ms of CPU", "img/s, a core each", "exchange, ms of CPU"]
    columns += ["of the step", "exchange, ms by the clock", "MB/s", *(f"{name}: of the step" for name in _LINKS)]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for recipe in arguments.recipes:
        config = load_config(recipe, ["--max_images=100000000"])
        if hasattr(config.model, "adversarial_begin"):
            begun = ["--model.adversarial_begin=0", "--model.adversarial_warmup=0"]
            config = load_config(recipe, ["--max_images=100000000", *begun])
        # Cached before several processes ask for it.
        open_store(config.data, split=config.split, resolution=config.resolution)
        megabytes = gradient_megabytes(recipe)
        for count in arguments.processes:
            found, sent = measure(config, count, arguments.steps, megabytes), ring(megabytes, count)
            cells = [f"{sent:.1f}", f"{1e3 * found.step:.0f}", f"{config.batch_size / found.step:.0f}"]
            if count > 1:
                cells += [f"{1e3 * found.exchange:.1f}", f"{found.exchange / found.step:.1%}"]
                cells += [f"{1e3 * found.waited:.1f}", f"{sent / found.waited:.0f}"]
                cells += [f"{sent / rate / found.step:.1%}" for rate in _LINKS.values()]
            else:
                cells += ["-"] * (len(columns) - 5)
            print(f"| {recipe} | {count} | {' | '.join(cells)} |", flush=True)


def ring(megabytes: float, processes: int) -> float:
    """What each process sends to add up `megabytes` of gradients in a ring: 2 (N - 1) / N of them."""
    return 2 * (processes - 1) / processes * megabytes


def gradient_megabytes(recipe: str) -> float:
    """Gradients of one step, in fp32, of the phases that run at its busiest."""
    return sizes(recipe)[0]


def sizes(recipe: str) -> tuple[float, float]:
    """Megabytes in fp32: the gradients of the busiest step, and what a process holds between steps.

    That is 16 bytes a trained weight (it, its average, Adam's two moments) and 8 a frozen one; gradients, activations
    and a perceptual network come on top while a step runs.
    """
    from hfgen.configs import load_config

    config = load_config(recipe)
    if "/" in getattr(config.model, "perceptual", ""):
        # A network of the Hub, which is neither trained nor exchanged.
        config = load_config(recipe, ["--model.perceptual=none"])
    channels = 3 if config.channels == "3" else 1
    classes = _CLASSES if getattr(config.model, "conditional", False) else 0
    networks, phases = config.model.build(config.resolution, channels, classes), config.model.phases()
    counts = {name: _weights(network) for name, network in networks.items()}
    trained = {name for phase in phases for name in phase.trains}
    busiest = max(
        sum(counts[name][0] for phase in phases if phase.begin <= moment < phase.end for name in phase.trains)
        for moment in (phase.begin for phase in phases)
    )
    held = sum(16 * own + 8 * other for name, (own, other) in counts.items() if name in trained)
    held += sum(8 * sum(counts[name]) for name in counts.keys() - trained)
    return 4e-6 * busiest, 1e-6 * held


def _weights(network: nn.Module) -> tuple[int, int]:
    """How many weights are trained, and how many are frozen."""
    found = [(parameter.requires_grad, parameter.numel()) for parameter in network.parameters()]
    trained = sum(count for wanted, count in found if wanted)
    return trained, sum(count for _, count in found) - trained


def _print_sizes() -> None:
    from hfgen.recipes import recipe_names

    print("| recipe | gradients of a step, MB | sent by each of 2, of 8 | held by a process |")
    print("|---|---|---|---|")
    for recipe in recipe_names():
        # Fine-tuning's networks are those of whatever it starts from.
        if "finetune" not in recipe:
            gradients, held = sizes(recipe)
            sent = f"{ring(gradients, 2):.1f}, {ring(gradients, 8):.1f}"
            print(f"| {recipe} | {gradients:.1f} | {sent} | {held:.0f} |")


def _threads(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


def _rate(recipe: str, max_images: int, processes: int) -> float:
    """Images a second of one run, from its first log line on: what comes before warms up."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}"]
    launcher.append("--main_process_port=0")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, *(launcher if processes > 1 else []), _SCRIPT, recipe, f"--out={out}"]
        command += [f"--max_images={max_images}", f"--log_every={max_images // 4}", "--sample_every=0"]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(_threads(processes))}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        lines = [json.loads(line) for line in (out / "speed.jsonl").open()]
    if any(line["processes"] != processes for line in lines):
        raise SystemExit(f"{lines[0]['processes']} processes ran, not {processes}")
    first, *others = lines
    return (others[-1]["images"] - first["images"]) / sum(line["seconds"] for line in others)
