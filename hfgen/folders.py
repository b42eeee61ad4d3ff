"""What a folder holds: a run, its published part, its newest checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

from hfgen.errors import ModelError

logger = logging.getLogger("hfgen")


def pretrained_folder(path: Path) -> Path:
    """`path` itself, its `pretrained/`, or its newest checkpoint's.

    Raises:
        ModelError: none of them is there.
    """
    if (path / "model_index.json").is_file() or (path / "config.json").is_file():
        return path
    if (path / "pretrained").is_dir():
        return pretrained_folder(path / "pretrained")
    unfinished = sorted((path / "checkpoints").glob("[0-9]*/pretrained"))
    if unfinished:
        logger.warning("%s isn't finished; its newest checkpoint, %s, is used", path, unfinished[-1].parent.name)
        return unfinished[-1]
    raise ModelError(f"model: {path} holds no checkpoint (no model_index.json or config.json); give a run's folder")
