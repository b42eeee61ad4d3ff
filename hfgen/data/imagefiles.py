"""Image files in folders -> a table: splits and classes by folders, or what a table beside them says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hfgen.data.labels import folder_labels
from hfgen.data.layout import find_splits
from hfgen.data.metadata import Metadata, columns_of, read_metadata, typed
from hfgen.data.splits import canonical
from hfgen.data.tables import Loaded
from hfgen.errors import DataError

_FOLDER = "label"
_SPLIT_COLUMNS = ("split", "subset", "partition", "set")


def open_images(
    name: str, folder: Path, paths: Sequence[PurePosixPath], tables: Sequence[PurePosixPath]
) -> tuple[Loaded, list[str]]:
    """The images at `paths`, and a line each of what was guessed or left out.

    The columns are `image`; those of metadata; or else `label`, where folders tell classes.

    Args:
        name: DATA, for errors.
        folder: What the paths are relative to.
        paths: The images'.
        tables: Of files that may be metadata.

    Raises:
        DataError: the layout can be read in more than one way, or metadata can't be read.
    """
    metadata = read_metadata(folder, tables, paths)
    notes = list(metadata.notes) if metadata else []
    if metadata and metadata.defining:
        paths = [path for path in paths if path in metadata.rows]
    elif metadata and metadata.images:
        shown = {row.get(column) for row in metadata.rows.values() for column in metadata.images}
        paths = [path for path in paths if path in metadata.rows or path not in shown]
    layout = find_splits(name, paths)
    notes += layout.notes
    splits, told = layout.splits, None
    if metadata and list(splits) == ["train"] and (told := _split_column(metadata, paths)) is not None:
        column, splits = told
        notes.append(f"splits are taken from the column {column} of the metadata")
    columns: dict[str, list[Any]] = {"image": [str(folder / path) for path in paths]}
    if metadata:
        columns |= _metadata_columns(folder, metadata, paths)
        columns.pop(told[0] if told else "", None)
    if _FOLDER not in columns:
        by_split = {split: [layout.folders[index] for index in indices] for split, indices in splits.items()}
        labels, guesses = folder_labels(by_split)
        # What a table says of classes is said under its own names; see `hfgen.data.columns`.
        if labels is not None and not (metadata and len(columns) > 1):
            columns[_FOLDER] = [None] * len(paths)
            for split, indices in splits.items():
                for index, label in zip(indices, labels[split], strict=True):
                    columns[_FOLDER][index] = label
        notes += [] if metadata else guesses
    return _loaded(columns, splits, metadata.images if metadata else ()), notes


def _loaded(columns: dict[str, list[Any]], splits: dict[str, list[int]], further: Sequence[str]) -> Loaded:
    import datasets

    features = datasets.Features()
    for column, values in columns.items():
        is_image = column == "image" or column in further
        features[column] = datasets.Image() if is_image else _value(values)
        if features[column] == datasets.Value("string"):
            columns[column] = [None if value is None else str(value) for value in values]
    rows = {
        split: {name: [values[i] for i in indices] for name, values in columns.items()}
        for split, indices in splits.items()
    }
    return Loaded({split: datasets.Dataset.from_dict(table, features=features) for split, table in rows.items()})


def _value(values: list[Any]) -> Any:
    import datasets

    kinds = {type(value) for value in values if value is not None}
    for kind, dtype in ((bool, "bool"), (int, "int64"), (float, "float64")):
        if kinds == {kind}:
            return datasets.Value(dtype)
    return datasets.Value("float64" if kinds == {int, float} else "string")


def _metadata_columns(folder: Path, metadata: Metadata, paths: Sequence[PurePosixPath]) -> dict[str, list[Any]]:
    rows = [metadata.rows.get(path, {}) for path in paths]
    columns = {name: typed([row.get(name) for row in rows]) for name in columns_of(metadata.rows) if name != "image"}
    for name in metadata.images:
        columns[name] = [None if path is None else str(folder / path) for path in columns[name]]
    return columns


def _split_column(metadata: Metadata, paths: Sequence[PurePosixPath]) -> tuple[str, dict[str, list[int]]] | None:
    """The column whose every value is a split's name, and the images' numbers by split."""
    for name in columns_of(metadata.rows):
        if name.lower() not in _SPLIT_COLUMNS:
            continue
        told = [canonical(str(metadata.rows.get(path, {}).get(name))) for path in paths]
        if None not in told and len(set(told)) > 1:
            order = [split for split in ("train", "validation", "test") if split in told]
            return name, {split: [i for i, other in enumerate(told) if other == split] for split in order}
        if len({value for value in told if value}) > 1:
            raise DataError(f"data: the column {name} of the metadata tells some images' splits only; fill it")
    return None
