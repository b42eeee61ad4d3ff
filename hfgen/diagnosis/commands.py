"""A cause -> the command that changes it, as it can be pasted: the run's own settings, and what is different."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from hfgen.configs import load_config
from hfgen.data.held import AS_OBJECT
from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.folders import PRETRAINED, RUN, run_of
from hfgen.recipes import recipe_names

_OF_THE_RUN = ("log_every", "sample_every", "checkpoint_every", "keep_checkpoints")
_LEFT_OUT = ("family", "data", "start_from", "max_images", *_OF_THE_RUN)
_FINETUNE = "vaegan-finetune"


@dataclasses.dataclass(frozen=True)
class Times:
    """A setting's own value, so many times as large."""

    factor: float


CHANGES: dict[str, dict[str, Any]] = {
    "under_trained": {"max_images": Times(4), "start_from": True},
    "unread": {"max_images": Times(4), "start_from": True},
    "network": {"max_images": Times(4), "start_from": True},
    "encoder": {"max_images": Times(4), "start_from": True},
    "decoder": {"max_images": Times(2), "start_from": True, "model.freeze_encoder": "true"},
    "generator": {"max_images": Times(4)},
    "generator_training": {"max_images": Times(4)},
    "coverage": {"max_images": Times(4)},
    "bottleneck": {"model.latent_channels": Times(2)},
    "invented_detail": {"model.latent_channels": Times(2)},
    "noise": {"model.kl_weight": Times(0.1)},
    "inactive_units": {"model.kl_weight": Times(0.1)},
    "codes": {"model.codes": Times(4)},
    "dead_codes": {"model.codebook_decay": 0.9},
    "prior_training": {"max_images": Times(1), "start_from": True, "model.prior_begin": 0.01},
    "prior": {"model.prior": "mixture", "start_from": True},
    "modes": {"model.penalty": Times(4)},
    "collapsed": {"model.penalty": Times(4)},
    "duplicates": {"model.penalty": Times(4)},
    "pattern": {"start_from": True, "max_images": Times(1)},
    "data": {"resolution": Times(0.5)},
    "grey_data": {"channels": 1},
}
"""By cause; a family that lacks the setting has no such command."""


def address(called: str, placeholder: str) -> str:
    """What a command names: the address or, of what was given as an object, a word to replace."""
    return placeholder if called.endswith(AS_OBJECT) else called


def command(cause: str, model: str, data: str, family: str, images: Mapping[str, Any] | None = None) -> str | None:
    """`hfgen train ...` with what to change because of `cause`; None where no setting is behind it.

    `images`: `resolution` and `channels` of those that it was diagnosed on, where they are known. Going on with a model
    needs its networks' settings, and so the folder of its run.
    """
    model, data, changes = address(model, "MODEL"), address(data, "DATA"), CHANGES.get(cause)
    if changes is None:
        return None
    own, recipe = own_settings(model), f"{family}-glyphs"
    if recipe not in recipe_names():
        recipe, own, changes = (
            _FINETUNE,
            {name: str(value) for name, value in (images or {}).items()},
            {"start_from": True},
        )
    elif not own and "start_from" in changes:
        return None
    try:
        usual = _flat(load_config(recipe).as_dict())
    except UserError:
        return None
    settings = {key: value for key, value in own.items() if key in usual and value != usual[key]}
    settings = {key: value for key, value in settings.items() if key not in _LEFT_OUT}
    current = {**usual, **own}
    for name, change in changes.items():
        if name == "start_from":
            settings[name] = model
        elif name not in current:
            return None
        else:
            settings[name] = _changed(current[name], change)
    if all(settings.get(name) == current.get(name) for name in changes if name != "start_from") and len(changes) > 1:
        return None  # It is like that already.
    words = ["hfgen", "train", recipe, "--data", data]
    for name, value in settings.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join([*words, "--out", _unused(f"runs/{recipe}-{cause.replace('_', '-')}")])


def _unused(out: str) -> str:
    """A folder that isn't there: advice that is followed twice doesn't end in the first run."""
    names = chain([out], (f"{out}-{number}" for number in count(2)))
    return next(name for name in names if not Path(name).exists())


def look_closer(model: str, data: str, *flags: str) -> str | None:
    """`hfgen diagnose ...`, where nothing was tried yet, or not for long; of what has no address, None."""
    if model.endswith(AS_OBJECT):
        return None
    words = ["hfgen", "diagnose", address(model, "MODEL"), "--data", address(data, "DATA"), *flags, "--out", "runs/why"]
    return shlex.join(words)


def _changed(value: Any, change: Any) -> Any:
    if not isinstance(change, Times):
        return change
    scaled = value * change.factor
    return max(1, round(scaled)) if isinstance(value, int) else float(f"{scaled:.3g}")


def own_settings(model: str) -> dict[str, Any]:
    """What the run's folder says that it was trained with, as `model.width` and the like; {} where there is none."""
    run = run_folder(model)
    if run is None:
        return {}
    try:
        found = read_json(run / RUN)
    except (UserError, OSError):
        return {}
    return _flat(found.get("config", {})) if isinstance(found, dict) else {}


def run_folder(model: str) -> Path | None:
    """The folder of the run that a local MODEL is of: it, or one that it lies in."""
    path = Path(model)
    folders = (path, *map(run_of, (path / PRETRAINED, path, path.parent))) if path.is_dir() else ()
    return next((folder for folder in folders if folder is not None and (folder / RUN).is_file()), None)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """`model.width` of {"model": {"width": ...}}."""
    model = config.get("model", {})
    flat = {**{k: v for k, v in config.items() if k != "model"}, **{f"model.{k}": v for k, v in model.items()}}
    # JSON has lists alone.
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
