"""MODEL -> the local folder (or .safetensors file) that holds it; of what lies on the Hub, only what is needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hfgen.errors import ModelError
from hfgen.files import exists, read_json
from hfgen.folders import PRETRAINED, RUN, pretrained_folder
from hfgen.hub.addresses import parse_address
from hfgen.hub.downloads import Files, LocalFiles, open_files
from hfgen.pipelines.known import (
    PIPELINES,
    autoencoder_class,
    class_name,
    component_names,
    is_autoencoder,
    opened,
    wrapper,
)
from hfgen.pipelines.schedulers import SCHEDULER_CONFIG, SCHEDULERS
from hfgen.pipelines.weights import CONVERT, PICKLES, has_variant, weight_files

logger = logging.getLogger("hfgen")

_BESIDE = ("preprocessor_config.json", "generation_config.json")
_RESULTS = (RUN, "record.json", "diagnosis.json", "study.json")
_GIVE = "give a run's or a checkpoint's folder, a .safetensors file, or org/name[/folder][@revision]"
_MOST_HINTS = 8

Check = Callable[[str | None, str], None]
"""Refuses a network by the class that its config.json names; the second argument is its place, for errors."""


def resolve_folder(model: str | Path, revision: str | None = None, variant: str | None = None, **options: Any) -> Path:
    """Where a model lies on this machine: a pipeline of hfgen, one of its networks, or a .safetensors file.

    Of any other pipeline it is the folder of its autoencoder. Of a repository on the Hub nothing but the needed
    files is downloaded, and only after its listing was looked at.

    Args:
        model: A run's folder, a checkpoint's, a component's, a pipeline's, a .safetensors file, or
            `org/name[/folder][@revision]`.
        revision: Branch, tag or commit of a Hub repository.
        variant: Of the weights, such as fp16; None: the plain ones, or the only ones.
        options: `token`, `cache_dir`, `force_download`, `local_files_only`, as for huggingface_hub's downloads.

    Raises:
        UserError: nothing is there, or nothing that hfgen opens.
    """
    return _resolve(model, _Wanted(str(model), variant, _check_known), revision, options)


def resolve_network(model: str | Path) -> Path:
    """`resolve_folder` for one network of any class, such as an image network of transformers."""
    return _resolve(
        model, _Wanted(str(model), None, lambda name, place: None, "give a folder, or org/name[@revision]"), None, {}
    )


class _Wanted(NamedTuple):
    """What is looked for, and where.

    Attributes:
        place: As the user wrote it.
        variant: Of the weights, or None.
        check: Of the class.
        remedy: What to give instead of what is none.
        remote: Whether the place is an address on the Hub.
    """

    place: str
    variant: str | None
    check: Check
    remedy: str = _GIVE
    remote: bool = False

    def inside(self, part: str) -> _Wanted:
        """The same in a folder of the place."""
        place, at, revision = self.place.partition("@") if self.remote else (self.place, "", "")
        return self._replace(place=f"{place.rstrip('/')}/{part}{at}{revision}")


def _check_known(name: str | None, place: str) -> None:
    if wrapper(name) is None:
        raise ModelError(f"model: {place} holds a {name}; hfgen opens {opened()}")


def _resolve(model: str | Path, wanted: _Wanted, revision: str | None, options: dict[str, Any]) -> Path:
    text = wanted.place
    path = Path(model).expanduser() if text.startswith("~") else Path(model)
    if exists(path):
        if revision is not None:
            raise ModelError(f"revision: {text} is on this machine and has none; leave {revision} out")
        if path.is_file():
            return _checked_file(path)
        is_run = (path / PRETRAINED).is_dir() or (path / "checkpoints").is_dir()
        return _find(LocalFiles(pretrained_folder(path) if is_run else path), "", wanted)
    if "://" not in text and (text.startswith((".", "/", "~")) or "/" not in text):
        raise ModelError(f"model: {text} isn't a folder; {wanted.remedy}")
    address = parse_address(text, revision)
    wanted = wanted._replace(place=str(address), remote=True)
    files = open_files(address, **options)
    folder, _, name = address.folder.rpartition("/")
    if name.endswith((".safetensors", *PICKLES)):
        if name not in files.names(folder):
            raise ModelError(f"model: {text}: {address.repository} has no such file; check the name")
        _checked_file(Path(name))
        there = files.names(folder)
        beside = [_join(folder, other) for other in ("config.json", RUN) if other in there and "config.json" in there]
        return files.fetch([address.folder, *beside]) / address.folder
    return _find(files, address.folder, wanted)


def _checked_file(path: Path) -> Path:
    if path.name.endswith(PICKLES):
        raise ModelError(f"model: {path} is a pickle, which may run any code when it is opened; {CONVERT}")
    if path.suffix != ".safetensors":
        raise ModelError(f"model: {path} isn't a .safetensors file; {_GIVE}")
    return path


def _find(files: Files, folder: str, wanted: _Wanted) -> Path:
    """The folder of the pipeline or the network in `folder`, whose files are fetched."""
    names = files.names(folder)
    if "model_index.json" in names:
        return _find_in_pipeline(files, folder, wanted)
    if "config.json" not in names:
        raise ModelError(
            f"model: {wanted.place} holds no checkpoint (no model_index.json or config.json); "
            f"{_hint(files, folder, wanted)}"
        )
    config = read_object(_fetched(files, folder, "config.json"))
    wanted.check(class_name(config.get("_class_name") or config.get("architectures")), wanted.place)
    paths, chosen = weight_files(files, folder, wanted.place, wanted.variant)
    _say_chosen(wanted, chosen)
    paths += [_join(folder, name) for name in ("config.json", *_BESIDE, *_RESULTS) if name in names]
    around, _, inside = folder.rpartition("/")
    if inside:
        outside = ("model_index.json", *((RUN,) if inside == PRETRAINED else ()))
        paths += [_join(around, name) for name in outside if name in files.names(around)]
    return files.fetch(paths) / folder


def _find_in_pipeline(files: Files, folder: str, wanted: _Wanted) -> Path:
    """The folder of a pipeline of hfgen, or of another one's autoencoder."""
    index = read_object(_fetched(files, folder, "model_index.json"))
    name = class_name(index.get("_class_name"))
    if name not in PIPELINES:
        part = _autoencoder_of(index, name, wanted)
        logger.info("%s is a %s, of which %s is taken", wanted.place, name, part)
        return _find(files, _join(folder, part), wanted.inside(part))
    there = [part for part in component_names(name, index) if files.names(_join(folder, part))]
    parts = [part for part in there if class_name(index.get(part)) not in SCHEDULERS]
    variants = dict.fromkeys(parts, wanted.variant)
    if wanted.variant is not None:
        # As in diffusers: what has no such weights is loaded from its plain ones, if anything has them.
        having = [part for part in parts if has_variant(files, _join(folder, part), wanted.variant)]
        variants = {part: wanted.variant if part in having or not having else None for part in parts}
    paths = [_join(folder, name) for name in ("model_index.json", *_RESULTS) if name in files.names(folder)]
    paths += [_join(_join(folder, part), SCHEDULER_CONFIG) for part in there if part not in parts]
    for part in parts:
        place = _join(folder, part)
        found, chosen = weight_files(files, place, wanted.inside(part).place, variants[part])
        _say_chosen(wanted.inside(part), chosen)
        paths += [*found, *(_join(place, name) for name in ("config.json", *_BESIDE) if name in files.names(place))]
    return files.fetch(paths) / folder


def _autoencoder_of(index: dict[str, Any], pipeline: str | None, wanted: _Wanted) -> str:
    """The component that is an autoencoder which hfgen opens, by what model_index.json says."""
    parts = {part: class_name(value) for part, value in index.items() if re.fullmatch(r"[A-Za-z]\w*", part)}
    there = {part: cls for part, cls in parts.items() if is_autoencoder(cls)}
    if not there:
        raise ModelError(f"model: {wanted.place} is a {pipeline}, and holds no autoencoder; hfgen opens {opened()}")
    part = "vae" if "vae" in there else next(iter(there))
    if part != "vae" and len(there) > 1:
        named = " or ".join(wanted.inside(part).place for part in there)
        raise ModelError(f"model: {wanted.place} has several autoencoders; name one: {named}")
    if autoencoder_class(there[part]) is None:
        raise ModelError(f"model: the {part} of {wanted.place} is a {there[part]}; hfgen opens {opened()}")
    return part


def _hint(files: Files, folder: str, wanted: _Wanted) -> str:
    """What of a folder without config.json could be meant."""
    names = files.names(folder)
    singles = sorted(name for name in names if name.endswith(".safetensors"))
    if singles:
        return f"of a single file give its name: {wanted.inside(singles[0]).place}"
    inside = sorted(files.folders(folder))[:_MOST_HINTS]
    parts = [part for part in inside if {"config.json", "model_index.json"} & files.names(_join(folder, part))]
    if parts:
        return f"it holds {', '.join(parts)}: name one, {wanted.inside(parts[0]).place}"
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    return f"{pickles[0]} is a pickle: {CONVERT}" if pickles else _GIVE


def _say_chosen(wanted: _Wanted, chosen: str | None) -> None:
    if chosen is not None and chosen != wanted.variant:
        logger.info("%s has only %s weights, which are taken", wanted.place, chosen)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: there is no such file, it is damaged, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: it holds a {type(value).__name__}, not a JSON object; get the file again")
    return value


def _fetched(files: Files, folder: str, name: str) -> Path:
    path = _join(folder, name)
    return files.fetch([path]) / path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
