"""One recipe in 1, 2, ... processes on the CPUs of this machine: images/s, and the gradients that they exchange.

The cores are shared among the processes, so that on one machine the ideal is the same rate for any number of them.
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

_SCRIPT = str(Path(__file__).parents[1] / "train.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--recipe", default="vae-glyphs", help="(%(default)s)")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="(1 2)")
    parser.add_argument("--max_images", type=int, default=4000, help="images that a run sees (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    rates: dict[int, list[float]] = {count: [] for count in arguments.processes}
    for _ in range(arguments.rounds):
        for count in rates:
            rates[count].append(_rate(arguments.recipe, arguments.max_images, count))
    megabytes = gradient_megabytes(arguments.recipe)
    print("| processes | threads each | img/s: median [lowest, highest] | MB that each sends in a step |")
    print("|---|---|---|---|")
    for count, values in rates.items():
        spread = f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"
        print(f"| {count} | {_threads(count)} | {spread} | {ring(megabytes, count):.1f} |")
    return 0


def ring(megabytes: float, processes: int) -> float:
    """What each process sends to add up `megabytes` of gradients in a ring: 2 (N - 1) / N of them."""
    return 2 * (processes - 1) / processes * megabytes


def gradient_megabytes(recipe: str) -> float:
    """Gradients of one step, in fp32, of the phases that run at its busiest."""
    from hfgen.configs import load_config

    config = load_config(recipe)
    networks, phases = config.model.build(config.resolution, 1), config.model.phases()
    moments = [phase.begin for phase in phases]
    return 4e-6 * max(
        sum(
            parameter.numel()
            for phase in phases
            if phase.begin <= moment < phase.end
            for name in phase.trains
            for parameter in networks[name].parameters()
            if parameter.requires_grad
        )
        for moment in moments
    )


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
