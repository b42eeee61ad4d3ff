"""The run's folder: one run, and proof of which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfgen.data import ImageStore
from hfgen.errors import UserError
from hfgen.files import read_json, write_json
from hfgen.training.config import RunConfig

_MAY_CHANGE = ("on_nonfinite", "log_with", "keep_checkpoints")
"""Settings that a repeated command may change: no bit of the weights so far depends on them."""


def claim_folder(out: Path, config: RunConfig, store: ImageStore, resume: str) -> None:
    """Write `out`/run.json, or check that it describes this very run.

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
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out: {out} isn't an empty folder and holds no run; choose another --out")
    write_json(path, run)


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
