"""What `hfgen train` spends before its first step: CPU time of whole commands, and of imports by package.

CPU time is user and system time, so that other processes hardly count. A module's own time is what it takes without the
modules that it imports.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "from diffusers import AutoencoderKL": ["-c", "from diffusers import AutoencoderKL"],
    "the same, Python's collector waiting": ["-c", "import gc; gc.disable(); from diffusers import AutoencoderKL"],
    "hfgen train vae-glyphs --dry_run": ["-m", "hfgen", "train", "vae-glyphs", "--dry_run"],
}
"""Arguments of Python, by what they are called in the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds (%(default)s)")
    parser.add_argument("--least", type=float, default=0.02, help="s, of a package that has a row (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print both tables."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.rounds):
        for name, command in COMMANDS.items():
            taken[name].append(cpu_seconds([sys.executable, *command]))
    print("| command | CPU, s: median [lowest, highest] |\n|---|---|")
    for name, values in taken.items():
        print(f"| `{name}` | {statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}] |")
    found = packages()
    total = sum(seconds for seconds, _ in found.values())
    print("\n| package | modules | their own CPU, s | share |\n|---|---|---|---|")
    for name, (seconds, modules) in sorted(found.items(), key=lambda row: -row[1][0]):
        if seconds >= arguments.least:
            print(f"| {name} | {modules} | {seconds:.2f} | {seconds / total:.0%} |")
    print(f"| all {len(found)} | {sum(modules for _, modules in found.values())} | {total:.2f} | |")
    return 0


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a command.

    Raises:
        SystemExit: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime


def packages() -> dict[str, tuple[float, int]]:
    """(CPU seconds, number of modules) by package, of what training imports in a new process."""
    command = [sys.executable, "-c", "from benchmarks import startup; startup.print_packages()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return {name: tuple(row) for name, row in json.loads(done.stdout).items()}


def print_packages() -> None:
    """What `packages` reads, of this process."""
    from hfgen.imports import without_collector

    timed = TimedImports()
    sys.meta_path.insert(0, timed)
    with without_collector(freeze=True):
        for name in ("hfgen.configs", "hfgen.library", "hfgen.training.train"):
            importlib.import_module(name)
    print(json.dumps(timed.rows))


class TimedImports:
    """First of `sys.meta_path`: leaves finding to the others, and times each module's execution.

    Attributes:
        rows: [CPU seconds, number of modules] by package.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        self._within = [0.0]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """See `importlib.abc.MetaPathFinder`."""
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, specs), None)
        # The loaders of what Python itself holds are classes, which all such modules share.
        if spec is not None and spec.loader is not None and not isinstance(spec.loader, type):
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._time(name, lambda: execute(module))  # type: ignore[method-assign]
        return spec

    def _time(self, name: str, execute: Any) -> None:
        started = time.process_time()
        self._within.append(0.0)
        try:
            execute()
        finally:
            seconds = time.process_time() - started
            row = self.rows[name.partition(".")[0]]
            row[0] += seconds - self._within.pop()
            row[1] += 1
            self._within[-1] += seconds
