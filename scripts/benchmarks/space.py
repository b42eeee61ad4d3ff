"""The Space on this machine: cold start, a warm reconstruction, and many visitors at once, against its bars."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch

from benchmarks.lens import frames_per_second
from hfgen.comparison.names import distinct_names
from hfgen.configs import load_config
from hfgen.errors import UserError
from hfgen.space.loaded_models import quickstart_models

COLD, WARM, ERRORS = 10.0, 0.3, 0
"""The most seconds to the first picture, of the median reconstruction by all models, and the most errors."""

_RECIPES = ("vae-glyphs", "vqvae-glyphs", "gan-glyphs")
_LONGEST = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-command's arguments."""
    help = "(those of quickstart; where there are none, untrained ones of 32 px)"
    parser.add_argument("--models", nargs="+", metavar="MODEL", help=help)
    parser.add_argument("--visitors", type=int, default=50, help="at once (%(default)s)")
    parser.add_argument("--requests", type=int, default=4, help="of each visitor, one after the other (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="warm reconstructions (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Print the table; returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        models = arguments.models or _models(Path(temporary))
        load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        print(f"{', '.join(distinct_names(models))}; {os.cpu_count()} cores, load averages before: {load}")
        with _serve(models, Path(temporary)) as (url, process, started):
            cold, processor = _first_picture(url, process) - started, sum(process.cpu_times()[:2])
            warm = _warm(url, arguments.rounds)
            frames = frames_per_second(url)
            waits, errors, peak = _crowd(url, process, arguments.visitors, arguments.requests)
    waits, median = waits or [math.nan], statistics.median(warm)
    rows: list[tuple[str, str, str, bool]] = [
        ("cold start to first picture, s", f"{cold:.1f}", f"{COLD:.0f}", cold <= COLD),
        ("its CPU time, s", f"{processor:.1f}", "", True),
        ("warm reconstruction by all, s: median", f"{median:.2f}", f"{WARM}", median <= WARM),
        ("warm reconstruction by all, s: slowest", f"{max(warm):.2f}", "", True),
        ("lens: frames a second", "n/a" if frames is None else f"{frames:.0f}", "", True),
        (f"{arguments.visitors} visitors, s: p50", f"{statistics.median(waits):.2f}", "", True),
        (f"{arguments.visitors} visitors, s: p95", f"{percentile(waits, 0.95):.2f}", "", True),
        (f"errors of {arguments.visitors * arguments.requests} requests", str(errors), str(ERRORS), errors <= ERRORS),
        ("the server's peak memory, MB", f"{peak / 2**20:.0f}", "", True),
    ]
    print("| measured | value | at most |\n|---|---|---|")
    for name, value, bar, met in rows:
        print(f"| {name} | {value} | {bar}{'' if met else ' (missed)'} |")
    return 1 if arguments.check and not all(met for *_, met in rows) else 0


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _models(folder: Path) -> list[str]:
    try:
        return quickstart_models()
    except UserError:
        for recipe in _RECIPES:
            torch.manual_seed(0)
            model = load_config(recipe).model
            model.pipeline(model.build(32, 1)).save_pretrained(folder / recipe / "pretrained")
        return [str(folder / recipe) for recipe in _RECIPES]


@contextlib.contextmanager
def _serve(models: list[str], folder: Path) -> Iterator[tuple[str, psutil.Popen, float]]:
    """`hfgen space` in a process: its address, the process, and when it was started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hfgen", "space", *models, "--data=glyphs", f"--port={port}"]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads")}
    # Imported before the clock starts: it is the visitor's.
    import gradio_client  # noqa: F401

    started = time.perf_counter()
    with (folder / "log.txt").open("wb") as log:
        process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield f"http://127.0.0.1:{port}", process, started
    except BaseException:
        print((folder / "log.txt").read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(30)


def _first_picture(url: str, process: psutil.Popen) -> float:
    """When the first visitor sees a reconstruction."""
    while True:
        if process.poll() is not None:
            raise SystemExit("the Space didn't start")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).read()
            break
        time.sleep(0.05)
    _reconstruct(_visitor(url), 0, noise=False)
    return time.perf_counter()


def _visitor(url: str) -> Any:
    from gradio_client import Client

    return Client(url, verbose=False)


def _reconstruct(client: Any, seed: int, *, noise: bool = True) -> None:
    """Another seed of the noise each time is a result that the Space doesn't remember."""
    knobs = {"image": None, "example": 0, "keep": 100, "noise": 0, "average": False, "posterior": noise}
    knobs |= {"quantise": True, "seed": seed}
    _, values = client.predict(**knobs, api_name="/reconstruct")
    if not values["models"][0]["reconstruction"].startswith("data:image/png"):
        raise ValueError("no picture")


def _generate(client: Any, seed: int) -> None:
    choices = {"seed": seed, "count": 16, "truncation": 4, "temperature": 1, "label": -1, "fitted": True}
    client.predict(**choices, api_name="/generate")


def _warm(url: str, rounds: int) -> list[float]:
    client = _visitor(url)
    seconds = []
    for seed in range(rounds):
        started = time.perf_counter()
        _reconstruct(client, seed)
        seconds.append(time.perf_counter() - started)
    return seconds


def _crowd(url: str, process: psutil.Popen, visitors: int, requests: int) -> tuple[list[float], int, int]:
    """All visitors at once, reconstructing and generating in turn: seconds a request, errors, peak bytes."""
    clients = [_visitor(url) for _ in range(visitors)]
    gate = threading.Barrier(visitors)
    peak, done = process.memory_info().rss, threading.Event()

    def visit(number: int) -> list[float | None]:
        gate.wait(_LONGEST)
        return [_timed(clients[number], 1000 + number * requests + turn, turn % 2) for turn in range(requests)]

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(visitors) as pool:
            found = [seconds for each in pool.map(visit, range(visitors)) for seconds in each]
    finally:
        done.set()
        watcher.join()
    waits = [seconds for seconds in found if seconds is not None]
    return waits, len(found) - len(waits), peak


def _timed(client: Any, seed: int, kind: int) -> float | None:
    """Seconds of one request; None where it failed."""
    started = time.perf_counter()
    try:
        (_generate if kind else _reconstruct)(client, seed)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return None
    return time.perf_counter() - started
