"""Whether images that are measured as held out may be among those that the model was trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfgen.data import Data, split_size
from hfgen.data.splits import ALL
from hfgen.data_options import BUILT_IN
from hfgen.errors import UserError
from hfgen.evaluation.held_out import HeldOut
from hfgen.files import read_json
from hfgen.folders import run_file
from hfgen.pipelines.given import Origin

# What a fingerprint depends on beside the images.
_PREPARED = ("small_images", "skip_damaged", "image_column", "label_column", "config_name")


def leak_notes(
    origin: Origin, data: Data, split: str, chosen: Mapping[str, Any], real: HeldOut | None = None
) -> list[str]:
    """A line where the model's run.json says that it saw these images, or that its data were others than today.

    Nothing is said of a model without run.json, of one that was trained on other data or on data that never change, and
    of splits whose images are said not to be held out, whoever measures them.

    Args:
        origin: Of the model.
        data: DATA.
        split: Whose images are measured.
        chosen: How they were chosen and prepared: `small_images`, `label_column` and the like.
        real: These images and the training images; None compares the splits alone.
    """
    run = _run_of(origin)
    config = run.get("config") if isinstance(run, dict) else None
    if not isinstance(config, dict) or split in ("train", ALL) or not _same_data(config.get("data"), data, origin):
        return []
    if (config.get("config_name") or None) != (chosen.get("config_name") or None):
        return []
    if (seen := _split_of(data, config)) in (split, ALL):
        return [f"split {split}: the model was trained on split {seen} of {data}, so these images aren't held out"]
    if real is None:
        return []
    changed = run.get("data_fingerprint") != real.training.fingerprint
    if data in BUILT_IN or seen != "train" or not changed or not _prepared_alike(config, real, chosen):
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
    # A published model's path is one of another machine, and a relative one that of another project.
    here = origin.folder is not None and origin.folder.resolve().is_relative_to(Path.cwd())
    known = origin.revision is None and (here or Path(trained).is_absolute())
    return known and Path(trained).resolve() == Path(data).resolve()


def _split_of(data: Data, config: Mapping[str, Any]) -> Any:
    """The one that served, where another was asked for and isn't there."""
    if (asked := config.get("split")) == ALL:
        return ALL
    with contextlib.suppress(UserError):
        return split_size(data, str(asked), config_name=config.get("config_name") or None)[0]
    return asked


def _prepared_alike(config: Mapping[str, Any], real: HeldOut, chosen: Mapping[str, Any]) -> bool:
    if any((config.get(name) or None) != (chosen.get(name) or None) for name in _PREPARED):
        return False
    made = config.get("resolution"), config.get("stream")
    channels = config.get("channels") in ("auto", str(real.training.channels))
    return channels and made == (real.training.resolution, 0)
