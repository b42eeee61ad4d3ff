"""Which rows the asked split of a dataset has, and which split serves as held-out where there is no `test`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hfgen.errors import DataError
from hfgen.seeds import derive_seed

ALL = "all"
"""The split that is the whole of a dataset that has only one."""

KEYWORDS = {
    "train": ("train", "training", "trainval"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What a split may be called; `datasets` knows the same names, and each is known in capitals too."""

_SPLITS = {keyword: split for split, keywords in KEYWORDS.items() for keyword in keywords}


def canonical(name: str) -> str | None:
    """`train`, `validation` or `test`, where the name means one of them."""
    return _SPLITS.get(name.lower())


@dataclass(frozen=True)
class Choice:
    """What an asked split is.

    Attributes:
        split: The split that is really used; `test` and `train` too where they are cut from the only one.
        whole: The split of the dataset that holds it.
        rows: Its rows there, int64 (n,), ascending.
        note: One line, where it isn't just what was asked for.
    """

    split: str
    whole: str
    rows: np.ndarray
    note: str | None = None


def choose(name: str, splits: Sequence[str], count: Callable[[str], int], asked: str) -> Choice:
    """The rows of a split.

    A dataset whose only split is `train` is divided, by a fixed seed: `test` is a tenth of it, `train` the rest.
    Where there is no `test`, the validation split serves as such.

    Args:
        name: DATA, for errors.
        splits: The dataset's.
        count: Gives the number of rows of one of them.
        asked: A split's name, also by another keyword of `KEYWORDS`, or `all`.

    Raises:
        DataError: there is no such split, or no image for it.
    """
    if list(splits) == ["train"] and canonical(asked) in ("train", "test"):
        return _divided(name, count("train"), str(canonical(asked)))
    found, note = _find(splits, asked), None
    if found is None and canonical(asked) == "test":
        found = _find(splits, "validation")
        note = f"there is no split {asked}: {found} serves as held-out"
    if found is None:
        raise no_split(name, asked, splits)
    rows = np.arange(count(found))
    if not len(rows):
        raise DataError(f"data: {name} has no image in the split {found}; add images, or choose another --split")
    return Choice(found, found, rows, note)


def no_split(name: str, split: str, splits: Sequence[str]) -> DataError:
    """The error for a split that DATA hasn't."""
    there = list(splits)
    if len(there) == 1:
        there += ["test", ALL] if there == ["train"] else [ALL]
    return DataError(f"split: {name} has no split {split!r}; use {', '.join(there[:-1])} or {there[-1]}")


def _find(splits: Sequence[str], asked: str) -> str | None:
    if asked in splits:
        return asked
    if asked == ALL:
        return splits[0] if len(splits) == 1 else None
    meant = canonical(asked)
    return next((split for split in splits if meant is not None and canonical(split) == meant), None)


def _divided(name: str, count: int, asked: str) -> Choice:
    held_out = _held_out(count)
    rows = np.flatnonzero(held_out if asked == "test" else ~held_out)
    if not len(rows):
        there = "has no image" if not count else "has one image, which is held out as test: none is left for train"
        raise DataError(
            f"data: {name} {there}; add images" + (", or use it for everything: --split all" if count else "")
        )
    note = f"it isn't divided: {held_out.sum()} of its {count} images, chosen by a fixed seed, are held out as test"
    return Choice(asked, "train", rows, note)


def _held_out(count: int) -> np.ndarray:
    """Which rows of an undivided dataset are its test split: bool (count,), a tenth of them, at least one."""
    order = np.argsort(np.random.PCG64(derive_seed("held out")).random_raw(count), kind="stable")
    held_out = np.zeros(count, bool)
    held_out[order[: max(1, count // 10)]] = True
    return held_out
