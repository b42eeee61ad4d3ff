"""Values of a column, or names of folders -> classes 0, 1, ...; or why they are none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = -1

_FEW_CLASSES = 20
_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """What the values of a column of labels mean.

    Attributes:
        names: Of the classes, where there are any.
        numbers: The class of each value; None where the values are the classes.
    """

    names: list[str] | None
    numbers: Mapping[Any, int] | None = None

    def number(self, value: Any) -> int:
        """The class of a value, `UNKNOWN` for none."""
        if self.numbers is not None:
            return self.numbers.get(value, UNKNOWN)
        return UNKNOWN if value is None else int(value)


def classes_of(column: str, counts: Mapping[Any, int]) -> tuple[Classes | None, list[str]]:
    """The classes that a column's values are, and a line each of what was changed or left out.

    Whole numbers 0 to K - 1 are classes as they are; other whole numbers, words and truth values are numbered in
    their order. Nothing, NaN, an empty text and, among other numbers, -1 are unknown. Fractions are no classes, nor
    are values of which nearly each image has its own.

    Args:
        column: Its name, for the notes.
        counts: How often each value occurs.
    """
    known = {value: count for value, count in counts.items() if not _is_missing(value)}
    try:
        keys = {value: _key(value) for value in known}
    except (TypeError, ValueError):
        return None, [f"labels are left out: {column} holds {_shown(list(known))}, which aren't classes"]
    # Of the two labels -1 and 1, -1 isn't a missing one.
    if set(keys.values()) != {-1, 1}:
        keys = {value: key for value, key in keys.items() if type(key) is not int or key != UNKNOWN}
    distinct = sorted(set(keys.values()), key=_order)
    images = sum(known[value] for value in keys)
    if not distinct:
        return None, [f"labels are left out: {column} holds none"]
    if len(distinct) > _FEW_CLASSES and 2 * len(distinct) > images:
        return None, [f"labels are left out: {column} has {len(distinct)} values in {images} images: no classes"]
    place = {key: index for index, key in enumerate(distinct)}
    numbers = {value: place[key] for value, key in keys.items()}
    if distinct == list(range(len(distinct))) and not any(isinstance(value, str | bool) for value in numbers):
        return Classes(None, numbers), []
    names = [str(key).lower() if isinstance(key, bool) else str(key) for key in distinct]
    # Words are names of classes, which needs no note.
    renumbered = all(isinstance(key, int) and not isinstance(key, bool) for key in distinct)
    renumbered = renumbered and distinct != list(range(len(distinct)))
    became = f"classes 0 to {len(names) - 1}" if len(names) > 1 else "class 0"
    notes = [f"labels {_shown(names)} of {column} became {became}"] if renumbered else []
    return Classes(names, numbers), notes


def folder_labels(
    folders: Mapping[str, Sequence[tuple[str, ...]]],
) -> tuple[dict[str, list[str | None]] | None, list[str]]:
    """The class of each image by the folders that it lies in, or None; and a line where that was a guess.

    Args:
        folders: By split, for each image the folders between the split's and it.
    """
    labelled = {split: rows for split, rows in folders.items() if any(rows)}
    if not labelled:
        return None, []
    shared = _shared([row for rows in labelled.values() for row in rows])
    rest = {split: [row[shared:] for row in rows] for split, rows in labelled.items()}
    depths = {len(row) for rows in rest.values() for row in rows}
    names = {name for rows in rest.values() for row in rows for name in row[:1]}
    if depths == {0} or (len(names) < 2 and len(depths) == 1):
        return None, []
    if 0 in depths:
        loose = sum(not row for rows in rest.values() for row in rows)
        return None, [f"labels are left out: {loose} images lie beside the folders {_shown(sorted(names))}"]
    notes = []
    level = -1 if len(depths) == 1 else 0
    if depths != {1}:
        which = "innermost" if level else "outermost"
        chosen = sorted({row[level] for rows in rest.values() for row in rows})
        notes.append(f"labels are the names of the {which} folders, {_shown(chosen)}")
    unlabelled = sorted(folders.keys() - labelled.keys())
    if unlabelled:
        notes.append(f"{_shown(unlabelled)} has no class folders: its labels are unknown")
    found: dict[str, list[str | None]] = {split: [None] * len(rows) for split, rows in folders.items()}
    return {**found, **{split: [row[level] for row in rows] for split, rows in rest.items()}}, notes


def missing_classes(split: str, names: Sequence[str] | None, labels: Sequence[int]) -> list[str]:
    """A line each: the labels that are unknown, and the classes that no image of the split has."""
    counts = Counter(labels)
    notes = []
    if unknown := counts.pop(UNKNOWN, 0):
        notes.append(f"{unknown} of the {len(labels)} images of {split} have no label")
    classes = range(len(names) if names else max(counts, default=-1) + 1)
    if counts and (empty := [str(names[index] if names else index) for index in classes if not counts[index]]):
        notes.append(f"{len(empty)} of the {len(classes)} classes have no image in {split}: {_shown(empty)}")
    return notes


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _key(value: Any) -> Any:
    """What a value is called: an int, a bool or a text.

    Raises:
        ValueError: a fraction.
        TypeError: anything else.
    """
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        # Texts that are numbers are put in the numbers' order.
        return int(text) if text.isdecimal() and str(int(text)) == text else text
    if isinstance(value, int):
        return value
    raise TypeError(value)


def _order(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key


def _shared(rows: Sequence[tuple[str, ...]]) -> int:
    """How many outer folders all the images have in common."""
    shared = 0
    while all(len(row) > shared for row in rows) and len({row[shared] for row in rows}) == 1:
        shared += 1
    return shared


def _shown(values: Sequence[Any]) -> str:
    more = len(values) - _SHOWN
    texts = [str(value)[:40] for value in values[:_SHOWN]]
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")
