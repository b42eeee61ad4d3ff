"""The run's folder: one run, and proof of which."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfgen.data import ImageStore
from hfgen.errors import UserError
from hfgen.files import read_json, remove_leftovers, write_json
from hfgen.training.config import RunConfig

_MAY_CHANGE = ("on_nonfinite", "log_with", "keep_checkpoints")
"""Settings that a repeated command may change: no bit of the weights so far depends on them."""


@contextlib.contextmanager
def sole_run(out: Path) -> Iterator[None]:
    """Keep every other process from training in `out` meanwhile; the system lets go for one that is killed.

    Raises:
        UserError: another one trains there, for instance what a killed launcher left behind.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {out} isn't a folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        # Where the file system has no locks, the run goes on without.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"out: another process trains in {out} now; wait for it or end it") from None
        yield
    finally:
        os.close(handle)


def claim_folder(out: Path, config: RunConfig, store: ImageStore, resume: str) -> None:
    """Write `out`/run.json, or check that it describes this very run; then remove what killed runs left there.

    Raises:
        UserError: `out` isn't empty and holds no run, or holds a run that differs; the first difference is named.
    """
    settings = config.as_dict()
    run = {"schema": 1, "config": settings, "data_fingerprint": store.fingerprint}
    path = out / "run.json"
    if path.is_file():
        before = read_json(path)
        free = {key: before["config"].get(key) for key in _MAY_CHANGE}
        difference = _first_difference(before, _as_json({**run, "config": {**settings, **free}}))
        if difference is not None:
            raise UserError(f"out: {out} holds another run ({difference}); choose another --out")
        if resume == "never":
            raise UserError(f"out: {out} holds this run already; choose another --out, or --resume auto to go on")
        if before != _as_json(run):
            write_json(path, run)
    elif out.exists() and not _is_free(out):
        raise UserError(f"out: {out} isn't an empty folder and holds no run; choose another --out")
    else:
        write_json(path, run)
    for folder in (out, out / "checkpoints", out / "samples"):
        remove_leftovers(folder)


def _is_free(out: Path) -> bool:
    """Whether `out` is a folder without anything but a run.json that was never finished."""
    return out.is_dir() and all(path.name.startswith(".run.json.tmp") for path in out.iterdir())


def _as_json(value: Any) -> Any:
    """What `value` will be once it was written and read: tuples become lists."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _first_difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str | None:
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _first_difference(old, new, "" if key == "config" else f"{key}.")
            if inner is not None:
                return inner
        elif old != new:
            return f"{prefix}{key} is {old} there, {new} here"
    return None
