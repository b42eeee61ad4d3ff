"""What a folder holds: a run, its published part, its newest checkpoint; what its run says of it; hfgen's results."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hfgen.errors import ModelError, UserError
from hfgen.files import read_json

PRETRAINED, RUN = "pretrained", "run.json"
# The file by which what a command wrote is known again.
_DOCUMENTS = ("record", "whole", "comparison", "diagnosis", "study", "posterior", "decoders")
RESULTS = frozenset((RUN, *(f"{name}.json" for name in _DOCUMENTS)))

# One of them is in each of these files; a user's own of such a name has hardly any.
_KEYS = frozenset(("config", "protocol", "models", "verdicts"))

logger = logging.getLogger("hfgen")


def pretrained_folder(path: Path) -> Path:
    """`path` itself, its `pretrained/`, or its newest checkpoint's.

    Raises:
        ModelError: none of them is there.
    """
    if (path / "model_index.json").is_file() or (path / "config.json").is_file():
        return path
    if (path / PRETRAINED).is_dir():
        return pretrained_folder(path / PRETRAINED)
    unfinished = sorted((path / "checkpoints").glob(f"[0-9]*/{PRETRAINED}"))
    if unfinished:
        logger.warning("%s isn't finished; its newest checkpoint, %s, is used", path, unfinished[-1].parent.name)
        return unfinished[-1]
    raise ModelError(f"model: {path} holds no checkpoint (no model_index.json or config.json); give a run's folder")


def home_of(folder: Path) -> Path:
    """The run's folder of its `pretrained/`; others as they are."""
    return folder.parent if folder.name == PRETRAINED else folder


def run_of(path: Path) -> Path | None:
    """The run's folder that a `pretrained/` is of, the last one or a checkpoint's; None of other folders."""
    path = path.resolve()
    if path.name != PRETRAINED:
        return None
    around = path.parent.parent
    return around.parent if around.name == "checkpoints" else path.parent


def holds_results(folder: Path) -> bool:
    """Whether a command of hfgen wrote this folder: a run, an evaluation, a comparison, a diagnosis or a study."""
    return any(_is_result(folder / name) for name in RESULTS if (folder / name).is_file())


def _is_result(path: Path) -> bool:
    try:
        value = read_json(path)
    except UserError:
        return False
    return isinstance(value, dict) and type(value.get("schema")) is int and not _KEYS.isdisjoint(value)


def run_file(path: Path) -> Path | None:
    """The run.json that says how the model in a folder was trained: beside it, as published, or of its run."""
    places = (path / RUN, *(run / RUN for run in (run_of(path),) if run is not None))
    return next((place for place in places if place.is_file()), None)


def trained_resolution(run: Any) -> int | None:
    """Side of the images that a run saw, in pixels, by what its run.json holds; None: that doesn't say."""
    config = run.get("config") if isinstance(run, dict) else None
    side = config.get("resolution") if isinstance(config, dict) else None
    return side if type(side) is int and side > 0 else None
