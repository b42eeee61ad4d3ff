"""Names of folders and files -> the splits that the user made of them, or a refusal: never a mixture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hfgen.data.splits import KEYWORDS, canonical
from hfgen.errors import DataError

_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SUFFIX = re.compile(r"(set|data|images|imgs|img|split)$")
_SHOWN = 6


@dataclass(frozen=True)
class Layout:
    """Which of the files belong to which split.

    Attributes:
        splits: By split, the numbers of its files.
        folders: For each file, the folders around it that tell no split.
        notes: A line each of what was guessed or left out.
    """

    splits: dict[str, list[int]]
    folders: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)


def find_splits(name: str, paths: Sequence[PurePosixPath], *, sharded: bool = False) -> Layout:
    """The splits that folders, or else the files' names, tell.

    A folder tells a split where it is called by a keyword of `datasets`, in any case, alone or as a word of its name
    (`train`, `Training`, `test_images`, `val2017`), on one level of all the files; the folders outside it don't matter.

    Args:
        name: DATA, for errors.
        paths: Of the files, relative to DATA.
        sharded: Whether any name before `-00000-of-00001` is a split, and not every file must tell one.

    Raises:
        DataError: the names can be read in more than one way; it says what was found and what to write.
    """
    folders = [path.parts[:-1] for path in paths]
    shared = 0
    while folders and all(len(row) > shared for row in folders):
        names = {row[shared] for row in folders}
        if len(names) > 1 or meaning(next(iter(names))):
            break
        shared += 1
    folders = [row[shared:] for row in folders]
    notes: list[str] = []
    for level in range(max(map(len, folders), default=0)):
        if (told := _told_by_folders(name, folders, level, notes)) is not None:
            return told
    told = _told_by_shards(name, paths, folders) if sharded else _told_by_names(paths, folders)
    if told is not None:
        return Layout(told.splits, told.folders, [*notes, *told.notes])
    return Layout({"train": list(range(len(paths)))}, folders, notes)


def meaning(name: str) -> str | None:
    """`train`, `validation` or `test`, where the name is a keyword or one word of it is."""
    if (exact := canonical(name)) is not None:
        return exact
    words = [word.lower() for word in _WORD.findall(name)]
    meant = {canonical(word) or canonical(_SUFFIX.sub("", word)) for word in words} - {None}
    return meant.pop() if len(meant) == 1 else None


def _told_by_folders(name: str, folders: list[tuple[str, ...]], level: int, notes: list[str]) -> Layout | None:
    at = [row[level] if len(row) > level else None for row in folders]
    names = sorted({found for found in at if found is not None})
    meant = {found: split for found in names if (split := meaning(found))}
    exact = {found: split for found in names if (split := canonical(found))}
    if not meant:
        return None
    others = [found for found in names if found not in meant]
    loose = at.count(None)
    if not others and not loose:
        return _divided(name, folders, at, meant, level, [])
    if len(set(exact.values())) > 1 and not level:
        left_out = sum(found not in exact for found in at)
        beside = [f"{found}/" for found in names if found not in exact] + (["the top folder"] if loose else [])
        note = f"{left_out} files of {_listed(beside)} belong to no split and are left out"
        return _divided(name, folders, at, exact, level, [note])
    same_depth = len({len(row) for row in folders}) == 1 and len(folders[0]) == level + 1
    if not exact or (set(exact) == {"train"} and same_depth):
        # Classes may be called so: "test 2", "train station", "train" beside "bus".
        if same_depth:
            notes.append(f"taken for classes, not for splits: {_listed([f'{found}/' for found in meant])}")
            return None
        if not exact:
            return None
    there = _listed([f"{found}/" for found in names] + ([f"{loose} files beside them"] if loose else []))
    raise DataError(
        f"data: {name} holds {there}, and only {_listed([f'{found}/' for found in exact])} is called like a split; "
        "put the rest into train/, validation/ or test/, or name the folder that is meant"
    )


def _told_by_names(paths: Sequence[PurePosixPath], folders: list[tuple[str, ...]]) -> Layout | None:
    """Where each file's name tells a split; a few that do are names like any other."""
    told = [meaning(path.name.partition(".")[0]) for path in paths]
    if None in told or len(set(told)) < 2:
        return None
    found = _collect(told)
    return Layout(found, folders, [f"splits are taken from the files' names: {', '.join(found)}"])


def _told_by_shards(name: str, paths: Sequence[PurePosixPath], folders: list[tuple[str, ...]]) -> Layout | None:
    stems = [path.name.partition(".")[0] for path in paths]
    parts = [match[1] if (match := _SHARD.fullmatch(stem)) else stem for stem in stems]
    if all(_SHARD.fullmatch(stem) for stem in stems):
        meant = {part: canonical(part) or part for part in parts}
    else:
        meant = {part: split for part in parts if (split := meaning(part))}
    if not meant:
        return None
    others = sorted(set(parts) - meant.keys())
    notes = [f"the files of {_listed(others)} belong to no split and are left out"] if others else []
    return _divided(name, folders, parts, meant, None, notes)


def _divided(
    name: str,
    folders: list[tuple[str, ...]],
    at: Sequence[str | None],
    meant: dict[str, str],
    level: int | None,
    notes: list[str],
) -> Layout:
    for split in set(meant.values()):
        same = sorted(found for found in meant if meant[found] == split)
        # Parts of one split differ in their number only.
        if len({re.sub(r"[-._ 0-9]+", "", found) for found in same}) > 1:
            raise DataError(
                f"data: {name} has {_listed(same)} for one split, {split}; keep one of them, or name the folder meant"
            )
    splits = _collect([meant.get(found) if found is not None else None for found in at])
    rest = folders if level is None else [row[:level] + row[level + 1 :] for row in folders]
    return Layout(splits, rest, notes)


def _collect(told: Sequence[str | None]) -> dict[str, list[int]]:
    """The files' numbers by split, the usual splits first."""
    order = [*KEYWORDS, *sorted({split for split in told if split} - KEYWORDS.keys())]
    found = {split: [index for index, other in enumerate(told) if other == split] for split in order}
    return {split: indices for split, indices in found.items() if indices}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
