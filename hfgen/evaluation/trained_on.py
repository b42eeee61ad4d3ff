"""Whether images that are measured as held out may be among those that the model was trained on."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hfgen.data import Data
from hfgen.data.splits import ALL
from hfgen.errors import UserError
from hfgen.evaluation.held_out import HeldOut
from hfgen.files import read_json
from hfgen.folders import run_file
from hfgen.pipelines.given import Origin


def leak_notes(origin: Origin, data: Data, real: HeldOut) -> list[str]:
    """A line where the model's run.json says that it saw these images, or that its data were others than today.

    Nothing is said of a model without run.json, of one that was trained on other data, and of splits whose images are
    said not to be held out, whoever measures them.
    """
    run = _run_of(origin)
    config = run.get("config") if isinstance(run, dict) else None
    split = real.store.split
    if not isinstance(config, dict) or split in ("train", ALL) or not _same_data(config.get("data"), data, origin):
        return []
    if (seen := config.get("split")) in (split, ALL):
        return [f"split {split}: the model was trained on split {seen} of {data}, so these images aren't held out"]
    prepared = config.get("resolution"), config.get("channels"), config.get("stream")
    alike = (real.training.resolution, real.training.channels, 0), (real.training.resolution, "auto", 0)
    if seen != "train" or prepared not in alike or run.get("data_fingerprint") == real.training.fingerprint:
        return []
    return [
        f"split {split}: {data} has other training images or labels now than when the model was trained; where images "
        "came or went since, held-out ones may be among those that it saw"
    ]


def _run_of(origin: Origin) -> Any:
    # A pipeline's folder, or that of its autoencoder alone.
    places = [] if origin.folder is None else [origin.folder, origin.folder.parent]
    path = next((found for place in places if (found := run_file(place)) is not None), None)
    # Where it is damaged, the model needn't be.
    with contextlib.suppress(UserError):
        return None if path is None else read_json(path)
    return None


def _same_data(trained: Any, data: Data, origin: Origin) -> bool:
    if not isinstance(trained, str) or not isinstance(data, str):
        return False
    if not Path(data).exists():
        return trained == data
    # A published model's path is one of another machine.
    return origin.revision is None and Path(trained).resolve() == Path(data).resolve()
