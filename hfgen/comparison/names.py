"""What models are called beside each other: as short as tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hfgen.errors import SettingsError
from hfgen.files import exists
from hfgen.folders import home_of
from hfgen.reporting.metric_table import REAL

RESERVED = ("frequencies", "real", REAL, "dataset", "figures", "comparison.json", "report.html", "grid.png")
"""Names in comparison.json's `spectrum` and in the table, and what lies beside the folders of the models."""

_LONGEST = 200
"""Bytes: nearly every file system takes 255 in a file's name, which has more than the model's."""


def distinct_names(models: Sequence[str]) -> list[str]:
    """What each model is called: its last part, and as many before it as tell it apart, such as `a-vae` and `b-vae`.

    A revision is named only where nothing else tells two apart.

    Raises:
        SettingsError: one is given twice.
    """
    places = [_place(model) for model in models]
    twice = next((model for index, model in enumerate(models) if places[index] in places[:index]), None)
    if twice is not None:
        raise SettingsError(f"models: {twice} is given twice; give each once")
    names = _lengthened([parts for parts, _ in places])
    return [
        f"{name}@{revision.replace('/', '-')}" if revision and names.count(name) > 1 else name
        for name, (_, revision) in zip(names, places, strict=True)
    ]


def _lengthened(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """Names of more and more parts, until no longer ones would differ."""
    shown = [1] * len(parts)
    while True:
        names = ["-".join(part[-count:]) for part, count in zip(parts, shown, strict=True)]
        alike = [index for index, name in enumerate(names) if names.count(name) > 1 or name in RESERVED]
        # More parts of one and the same place tell nothing.
        longer = [index for index in alike if shown[index] < len(parts[index]) and _others(parts, names, index)]
        if not longer:
            return names
        for index in longer:
            shown[index] += 1


def _others(parts: Sequence[tuple[str, ...]], names: Sequence[str], index: int) -> bool:
    """Whether the name is reserved, or is that of another place too."""
    return names[index] in RESERVED or any(
        name == names[index] and part != parts[index] for name, part in zip(names, parts, strict=True)
    )


def check_names(names: Iterable[str]) -> None:
    """Refuse names that a comparison's files need for other things, and those that can't be a folder's.

    Raises:
        SettingsError: one of them is such, or two differ in case only.
    """
    seen: dict[str, str] = {}
    for name in names:
        if str(name).casefold() in RESERVED:
            raise SettingsError(f"models: {name} can't be a model's name here; give another one, NAME=MODEL")
        if not isinstance(name, str) or not name.strip(" .") or set(name) & set("/\\\0\n"):
            raise SettingsError(f"models: {name!r} can't be a model's name; give a word that can be a folder's")
        if len(name.encode()) > _LONGEST:
            raise SettingsError(
                f"models: {name[:20]}... has {len(name.encode())} bytes, {_LONGEST} at most; shorten it"
            )
        if (other := seen.setdefault(name.casefold(), name)) != name:
            why = "which some file systems don't tell apart"
            raise SettingsError(f"models: {other} and {name} differ in case only, {why}; give another NAME=MODEL")


def _place(model: str) -> tuple[tuple[str, ...], str]:
    """A folder's path, or a Hub id, in parts, and its revision; of a run's folder and its `pretrained/` the same."""
    if not model.strip():
        raise SettingsError(f"models: {model!r} names no model; give a folder, or org/name[@revision]")
    if exists(Path(model)):
        path = Path(model).absolute()
        path = path.resolve() if ".." in path.parts else path
        return home_of(path).parts[1:], ""
    name, _, revision = model.partition("@")
    parts = tuple(name.strip("/").split("/"))
    return parts[:-1] if parts[-1] == "pretrained" and len(parts) > 1 else parts, revision
