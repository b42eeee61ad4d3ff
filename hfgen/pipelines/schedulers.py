"""Schedulers: components of a pipeline that have settings and no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfgen.errors import ModelError
from hfgen.files import read_json

SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
"""The classes of diffusers that are opened."""
SCHEDULER_CONFIG = "scheduler_config.json"


def load_scheduler(folder: Path, name: str) -> Any:
    """A scheduler of the class `name`.

    Raises:
        ModelError: another class is written there, or it can't be built.
    """
    import diffusers

    config = read_json(folder / SCHEDULER_CONFIG)
    written = config.get("_class_name") if isinstance(config, dict) else None
    if written != name:
        raise ModelError(f"{folder}: holds a {written}, not a {name}; the checkpoint is mixed up, get it again")
    try:
        return getattr(diffusers, name).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # On odd configs the library raises almost anything.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(f"{folder} can't be loaded: {reason}; get the checkpoint again") from error
