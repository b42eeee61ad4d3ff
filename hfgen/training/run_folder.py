"""The run's folder: it holds one run, and says which."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hfgen.data import ImageStore
from hfgen.errors import SettingsError
from hfgen.files import read_json, remove_leftovers, write_json
from hfgen.outputs import output_folder
from hfgen.training.config import RunConfig

logger = logging.getLogger("hfgen")

LOCK = ".lock"
"""File in the run's folder that its main process holds."""

_MAY_CHANGE = ("on_nonfinite", "log_with", "keep_checkpoints")
"""Settings that a repeated command may change: the weights so far don't depend on them."""


def is_finished(out: Path, config: RunConfig, resume: str) -> bool:
    """Whether `out` holds this very run, finished. The data isn't opened, so its fingerprint isn't compared.

    Raises:
        SettingsError: it holds another run, or this one, which must not be resumed; or it can't be a run's folder.
    """
    path = out / "run.json"
    if path.is_file():
        before = read_json(path)
        _check(out, before, {"schema": 1, "config": config.as_dict(), "data_fingerprint": _fingerprint(before)}, resume)
        if (out / "pretrained").is_dir():
            return True
    _check_place(out)
    return False


@contextlib.contextmanager
def sole_run(out: Path) -> Iterator[None]:
    """Keep every other process from training in `out` meanwhile; the system releases the lock of a killed one.

    Raises:
        SettingsError: another one trains there, for instance what a killed launcher left behind; or it can't be a
            run's folder.
    """
    _check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(f"out: another process trains in {out} now; wait for it or end it") from None
    except (OSError, NotImplementedError):
        logger.warning("out: the file system of %s has no locks; start no second run there", out)
    try:
        yield
    finally:
        lock.release()


def refuse_busy(out: Path) -> None:
    """Refuse a folder in which another process trains now; nothing is made there.

    Raises:
        SettingsError: see `sole_run`.
    """
    if (out / LOCK).exists():
        with sole_run(out):
            pass


def claim_folder(out: Path, config: RunConfig, store: ImageStore, resume: str) -> None:
    """Write `out`/run.json, or check that it describes this very run; then remove what killed runs left there.

    Raises:
        SettingsError: `out` holds a run that differs; the first difference is named.
    """
    run = {"schema": 1, "config": config.as_dict(), "data_fingerprint": store.fingerprint}
    path, before = out / "run.json", {}
    if path.is_file():
        before = read_json(path)
        _check(out, before, run, resume)
    run["computed"] = _computed(before)
    if before != as_json(run):
        write_json(path, run)
    for folder in (out, out / "checkpoints", out / "samples"):
        remove_leftovers(folder)


def record_computed(out: Path, images_seen: int, how: Mapping[str, Any]) -> None:
    """Add to `out`/run.json how the run computes from `images_seen` on; a change is logged.

    `computed` lists {from, device, precision, ...}; what was recorded for images that are seen again is dropped.
    """
    run = read_json(out / "run.json")
    before = [entry for entry in _computed(run) if entry["from"] < images_seen]
    last = {key: value for key, value in before[-1].items() if key != "from"} if before else None
    if last == how:
        computed = before
    else:
        computed = [*before, {"from": images_seen, **how}]
        if last is not None:
            changes = (f"{key} {last.get(key)} before, {how[key]} now" for key in how if last.get(key) != how[key])
            logger.warning("from image %d on the run computes otherwise: %s", images_seen, "; ".join(changes))
    if computed != _computed(run):
        write_json(out / "run.json", {**run, "computed": computed})


def computed_last(out: Path) -> dict[str, Any]:
    """The last entry that `record_computed` made in `out`/run.json; empty where there is none."""
    path = out / "run.json"
    entries = _computed(read_json(path)) if path.is_file() else []
    return entries[-1] if entries else {}


def _check_place(out: Path) -> None:
    """Refuse what can't be a run's folder, before anything is written."""
    output_folder(str(out))
    if out.is_dir() and not (out / "run.json").is_file() and not _is_free(out):
        raise SettingsError(f"out: {out} isn't an empty folder and holds no run; choose another --out")


def _check(out: Path, before: dict[str, Any], run: dict[str, Any], resume: str) -> None:
    """Refuse another run than the one `before`, and this one where it must not be resumed."""
    settings = before.get("config", {}) if isinstance(before, dict) else None
    if not isinstance(settings, dict):
        raise SettingsError(f"out: {out / 'run.json'} is damaged: it holds no settings; choose another --out")
    free = {key: settings.get(key) for key in _MAY_CHANGE}
    told = {key: value for key, value in before.items() if key != "computed"}
    difference = first_difference(told, as_json({**run, "config": {**run["config"], **free}}))
    if difference is not None:
        raise SettingsError(f"out: {out} holds another run ({difference}); choose another --out")
    if resume == "never":
        raise SettingsError(f"out: {out} holds this run already; choose another --out, or --resume auto to go on")


def _fingerprint(run: Any) -> Any:
    return run.get("data_fingerprint") if isinstance(run, dict) else None


def _computed(run: Any) -> list[dict[str, Any]]:
    """The entries of a run.json that can be read."""
    entries = run.get("computed") if isinstance(run, dict) else None
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("from"), int)]


def _is_free(out: Path) -> bool:
    """Whether `out` is a folder without anything but its lock, and what was never finished."""
    return out.is_dir() and all(
        path.name.startswith((LOCK, ".run.json.tmp", f".{out.name}.tmp")) for path in out.iterdir()
    )


def as_json(value: Any) -> Any:
    """What `value` will be once it was written and read: tuples become lists."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


def first_difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str | None:
    """The first value, by its name, that isn't the same in two trees; None: there is none."""
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = first_difference(old, new, "" if key == "config" else f"{key}.")
            if inner is not None:
                return inner
        elif old != new:
            return f"{prefix}{key} is {old} there, {new} here"
    return None
