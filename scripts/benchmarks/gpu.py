"""Everything that only a GPU can show, the most valuable first: correctness, speed, evaluation, training, studies.

Each part runs in a process of its own, so that a fault ends that part alone; parts whose rows aren't timed run at once.
A row is written to `--out`/rows.jsonl as soon as it is measured; the same call measures what isn't there, and prints
the table of all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from benchmarks import gpu_parts, gpu_settings, gpu_turns

_TOLD = {"failed": "error", "left out": "reason"}
"""What a row says instead of values, by its state."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    names = list(gpu_parts.PARTS)
    parser.add_argument("--minutes", type=float, default=9, help="after which the rest is left out (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of rows.jsonl, table.md, models and logs")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="(all)")
    parser.add_argument("--data", default="glyphs", help="what models are trained on at 32 px (%(default)s)")
    help = "cpu tries the list (%(default)s)"
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=help)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="of the rows, those that begin so")
    parser.add_argument("--training_minutes", type=float, default=4, help="of each of two models (%(default)s)")
    parser.add_argument("--toy", action="store_true", help="the whole list on the smallest sizes")
    parser.add_argument("--check", action="store_true", help="exit 1 where a row failed or misses its goal")
    parser.add_argument("--part", choices=names, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Measure part by part until the minutes are over, print the table; returns the exit code."""
    from hfgen.devices import choose_device
    from hfgen.errors import SettingsError

    # pytest runs in another folder.
    arguments.out = arguments.out.resolve()
    rows = Rows(arguments.out / "rows.jsonl")
    if arguments.part:
        return _measure(arguments, rows)
    try:
        choose_device(arguments.device)
    except SettingsError as error:
        print(f"{error}; `--device cpu --toy` tries the list", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    if (difference := _begun_otherwise(arguments)) is not None:
        print(f"out: {arguments.out} was begun otherwise ({difference}); give another --out", file=sys.stderr)
        return 2
    # A part whose call was ended from outside would keep the card's memory.
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As `nohup` has it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: ended.set())
    ends = time.monotonic() + 60 * arguments.minutes
    for names in _groups(arguments.parts):
        left = ends - time.monotonic()
        with ThreadPoolExecutor(len(names)) as pool:
            try:
                futures = [pool.submit(_run_part, name, arguments, left, ended) for name in names]
                # Now and then, since a signal that comes just before a wait doesn't end it.
                while wait(futures, timeout=0.5).not_done:
                    pass
                for future in futures:
                    future.result()
            except BaseException:
                # Ctrl-C reaches this thread alone.
                ended.set()
                raise
        if ended.is_set():
            # The parts ended by themselves in that moment.
            sys.exit(128 + signal.SIGTERM)
    table = _table(rows, arguments)
    (arguments.out / "table.md").write_text(table)
    print(table)
    missed = [row for row in rows.newest() if row["state"] == "failed" or row["values"].get("goal held") is False]
    return int(arguments.check and bool(missed))


def _begun_otherwise(arguments: argparse.Namespace) -> str | None:
    """In what `--out` was begun otherwise, so that its rows and models can't be this call's; None where it wasn't."""
    from hfgen.devices import choose_device, device_name
    from hfgen.documents import versions
    from hfgen.files import read_json, write_json
    from hfgen.training.run_folder import first_difference

    file, used = arguments.out / "made_by.json", {**versions("transformers"), "python": platform.python_version()}
    # Not `describe`, for which this process would keep a part of the card's memory.
    card = device_name(choose_device(arguments.device))
    now = {"device": card, "data": arguments.data, "toy": arguments.toy, "versions": used}
    if file.is_file():
        return first_difference(read_json(file), now)
    if (arguments.out / "rows.jsonl").is_file():
        return f"there is no {file.name} beside rows.jsonl"
    write_json(file, now)
    return None


class Rows:
    """The file of rows: appended to, so that what was measured stays whatever happens; of one name the last counts."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, part: str, name: str, seconds: float, **found: Any) -> None:
        """Append a row; what a kill left of a line is ended first."""
        begun = self.file.is_file() and not self.file.read_bytes().endswith(b"\n")
        with self.file.open("a") as file:
            row = {"part": part, "name": name, "seconds": round(seconds, 1), **found}
            file.write("\n" * begun + json.dumps(row) + "\n")

    def newest(self) -> list[dict[str, Any]]:
        """Each row as it was found last, in the order in which they came first."""
        if not self.file.is_file():
            return []
        lines = [line for line in self.file.read_text().splitlines() if line.endswith("}")]
        found = [json.loads(line) for line in lines]
        return list({(row["part"], row["name"]): row for row in found}.values())

    def has(self, part: str, name: str) -> bool:
        """Whether it was measured."""
        return any((row["part"], row["name"], row["state"]) == (part, name, "measured") for row in self.newest())


def _groups(names: list[str]) -> list[list[str]]:
    """Which parts run at once: those in a row whose rows aren't timed; each of the others is alone."""
    groups: list[list[str]] = []
    for alone, found in itertools.groupby(dict.fromkeys(names), lambda name: gpu_parts.PARTS[name].alone):
        group = list(found)
        groups += [[name] for name in group] if alone else [group]
    return groups


def _run_part(name: str, arguments: argparse.Namespace, left: float, ended: threading.Event) -> None:
    """A part in a process group of its own, which ends with its time; prints how it ended.

    Raises:
        SystemExit: `ended` was set, by a signal.
    """
    limit = min(left, gpu_parts.PARTS[name].limit(arguments.training_minutes) * 60)
    state = "left out: no time" if limit < 1 else _state_of_part(name, arguments, limit, ended)
    print(f"{name}: {state}", flush=True)


def _state_of_part(name: str, arguments: argparse.Namespace, limit: float, ended: threading.Event) -> str:
    script = Path(__file__).parents[1] / "benchmark.py"
    command = [sys.executable, str(script), "gpu", f"--part={name}", f"--out={arguments.out}"]
    command += [f"--data={arguments.data}", f"--device={arguments.device}", *["--toy"] * arguments.toy]
    command += [f"--training_minutes={arguments.training_minutes}", "--only", *arguments.only]
    log = arguments.out / f"{name}.log"
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = _wait(process, limit, ended)
        finally:
            _end(process)
    if code is None:
        return f"ended after {limit:.0f} s; the same call goes on"
    return "done" if code == 0 else f"exit code {code}, see {log}"


def _wait(process: subprocess.Popen[bytes], seconds: float, ended: threading.Event) -> int | None:
    """Its exit code, or None after so long."""
    until = time.monotonic() + seconds
    while (code := process.poll()) is None and time.monotonic() < until:
        if ended.wait(0.2):
            sys.exit(128 + signal.SIGTERM)
    return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the part's process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _measure(arguments: argparse.Namespace, rows: Rows) -> int:
    """One part's rows, in this process; a row that fails doesn't end the others."""
    minutes = arguments.training_minutes
    settings = gpu_settings.Settings(arguments.device, arguments.data, arguments.out, arguments.toy, minutes)
    failed = False
    due = [row for row in _due(arguments.part, settings, rows) if row[0].startswith(tuple(arguments.only))]
    for name, work in gpu_turns.prepared(due):
        started = time.monotonic()
        try:
            found: dict[str, Any] = {"state": "measured", "values": work()}
        except gpu_settings.LeftOut as reason:
            found = {"state": "left out", "values": {}, "reason": str(reason)}
        # Out of memory, a compiler's fault, a library's: each has its own.
        except Exception as error:
            failed = True
            text = " ".join(str(error).split()) or type(error).__name__
            found = {"state": "failed", "values": {}, "error": text[:300]}
        rows.add(arguments.part, name, time.monotonic() - started, **found)
        print(name, found, flush=True)
    return int(failed)


def _due(
    part: str, settings: gpu_settings.Settings, rows: Rows
) -> Iterator[tuple[str, Callable[[], dict[str, gpu_settings.Value]]]]:
    for name, work in gpu_parts.PARTS[part].rows(settings):
        if not rows.has(part, name):
            yield name, work


def _table(rows: Rows, arguments: argparse.Namespace) -> str:
    """All rows in words: where and when, and a line for each."""
    import torch

    from hfgen.devices import choose_device, describe

    place = describe(choose_device(arguments.device))
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    lines = [f"{time.strftime('%Y-%m-%d')}, {place}, {versions}{', toy sizes' if arguments.toy else ''}", ""]
    lines += ["| part | what | found | seconds |", "|---|---|---|---|"]
    order = {name: index for index, name in enumerate(gpu_parts.PARTS)}
    for row in sorted(rows.newest(), key=lambda row: order.get(row["part"], len(order))):
        told = _TOLD.get(row["state"])
        found = f"{row['state']}: {row[told]}" if told else _values(row["values"])
        lines.append(f"| {row['part']} | {row['name']} | {found} | {row['seconds']:.0f} |")
    return "\n".join([*lines, ""])


def _values(values: dict[str, gpu_settings.Value]) -> str:
    texts = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()]
    return "; ".join(texts).replace("|", "/")
