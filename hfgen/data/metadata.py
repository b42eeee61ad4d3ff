"""Tables beside images, as metadata.csv: which rows belong to which image, and what they say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hfgen.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

_PATHS = ("file_name", "filename", "file", "image", "img", "path", "image_path")
_FILE_NAMES = (*_PATHS, "image_id", "id", "name")
_FILE_SUFFIX = "_file_name"
_LOOKED_AT = 200
_DEFINING = "metadata"


@dataclass(frozen=True)
class Metadata:
    """What tables say about images.

    Attributes:
        rows: By the image's path, its row; of further images in a row (`sketch_file_name`) the path, under `sketch`.
        images: The columns of further images.
        defining: Whether the rows say which images there are, as those of metadata.csv do.
        notes: A line each of what didn't fit.
    """

    rows: dict[PurePosixPath, dict[str, Any]]
    images: tuple[str, ...]
    defining: bool
    notes: list[str]


def read_metadata(folder: Path, tables: Sequence[PurePosixPath], paths: Sequence[PurePosixPath]) -> Metadata | None:
    """The rows for the images at `paths`; tables that name none of them are no metadata.

    A row names its image by the path from the table's folder, its absolute path, that from the working directory, its
    file's name, or that without suffix.

    Args:
        folder: DATA.
        tables: Files that may be metadata, relative to it.
        paths: The images', relative to it.

    Raises:
        DataError: a file called metadata can't be read, or names no image.
    """
    rows: dict[PurePosixPath, dict[str, Any]] = {}
    further: set[str] = set()
    notes: list[str] = []
    used = []
    for table in tables:
        below = [path for path in paths if path.is_relative_to(table.parent)]
        frame = _read(folder / table, required=table.stem == _DEFINING)
        column, index = _file_column(frame, folder, table, below) if frame is not None and below else (None, {})
        if frame is None or column is None:
            if frame is not None and (reason := _unused(frame, below)) is not None:
                notes.append(f"{table} isn't used: {reason}")
            if table.stem == _DEFINING and below:
                raise DataError(f"data: {folder / table} names no image beside it; write their paths into file_name")
            continue
        used.append(table)
        others = [other for other in map(str, frame.columns) if other.endswith(_FILE_SUFFIX) and other != column]
        further |= {other.removesuffix(_FILE_SUFFIX) for other in others}
        absent = []
        for record in frame.to_dict("records"):
            if (path := index.get(str(record.pop(column)))) is None:
                absent.append(record)
                continue
            for other in others:
                record[other.removesuffix(_FILE_SUFFIX)] = index.get(str(record.pop(other)))
            rows[path] = {**rows.get(path, {}), **{str(key): value for key, value in record.items()}}
        if absent:
            notes.append(f"{len(absent)} rows of {table} name no image and are left out")
    if not rows:
        return Metadata({}, (), False, notes) if notes else None
    defining = bool(rows) and any(table.stem == _DEFINING for table in used)
    shown = {row[name] for row in rows.values() for name in further}
    if lacking := len([path for path in paths if path not in rows and path not in shown]):
        what = "left out" if defining else "kept, without labels"
        notes.append(f"{lacking} images have no row in {', '.join(map(str, used))}: they are {what}")
    return Metadata(rows, tuple(sorted(further)), defining, notes)


def typed(values: list[Any]) -> list[Any]:
    """Texts as whole numbers, fractions or truth values, where all of them are; the rest as they are."""
    texts = [value for value in values if value is not None]
    if not all(isinstance(text, str) for text in texts):
        return values
    for kind in (_whole, _truth, float):
        try:
            return [None if value is None else kind(value) for value in values]
        except ValueError:
            continue
    return values


def _whole(text: str) -> int:
    number = int(text)
    if str(number) != text.strip():
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _read(path: Path, *, required: bool) -> pd.DataFrame | None:
    """The table, CSV's cells as texts: a name such as 007 stays one. None where it can't be read and needn't be."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix.lower() == ".jsonl":
            frame = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        else:
            # Found out, since spreadsheets write semicolons too; a table of one column has none.
            with path.open(encoding="utf-8-sig") as file:
                head = file.readline()
            separator = max(",;\t|", key=head.count)
            options: Any = {"sep": separator, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
            frame = pd.read_csv(path, skipinitialspace=True, **options)
        frame.columns = [str(column).strip() for column in frame.columns]
        frame = frame.astype(object)
        return frame.where(frame.notna() & (frame != ""), None)
    except Exception as error:  # pandas and its engines raise almost anything on a file that is no table.
        if not required:
            return None
        reason = str(error).partition("\n")[0]
        raise DataError(f"data: {path} can't be read ({reason}); fix it, or remove it") from error


def _file_column(
    frame: pd.DataFrame, folder: Path, table: PurePosixPath, paths: Sequence[PurePosixPath]
) -> tuple[str | None, dict[str, PurePosixPath]]:
    """The column that names images, and the image of each of its values; None where fewer than half do."""
    index = _index(folder, table, paths)
    names = sorted(map(str, frame.columns), key=lambda name: name.lower() not in _FILE_NAMES)
    if any(name.lower() in _PATHS for name in names):
        # Those of further images, whose rows would then be of these.
        names = [name for name in names if not name.endswith(_FILE_SUFFIX)]
    best, share = None, 0.5
    for name in names:
        values = [str(value) for value in frame[name].head(_LOOKED_AT) if value is not None]
        # Classes 0 and 1 may be names of files too, but they come again and again.
        found = values if name.lower() in _FILE_NAMES else set(values)
        hits = sum(value in index for value in found) / max(1, len(values))
        if hits > share:
            best, share = name, hits
    return best, index


def _unused(frame: pd.DataFrame, paths: Sequence[PurePosixPath]) -> str | None:
    """Why a table of files' names tells nothing of these images; None where it is no such table."""
    counts, suffixes = Counter(path.name for path in paths), {path.suffix.lower() for path in paths} - {""}
    texts = [{str(value) for value in frame[name].head(_LOOKED_AT) if value is not None} for name in frame.columns]
    if any(values and all(counts[value] > 1 for value in values) for values in texts):
        return "several images have the names in it; write paths"
    files = (values for values in texts if values and {_plain(value).suffix.lower() for value in values} <= suffixes)
    for values in files:
        if absent := {value for value in values if not counts[_plain(value).name]}:
            return f"most images that it names, as {min(absent)}, aren't beside it; write paths from its folder"
        if elsewhere := {value for value in values if len(_plain(value).parts) > 1}:
            return f"it names no image by its path, as {min(elsewhere)}; write paths from its folder"
    return None


def _plain(name: str) -> PurePosixPath:
    """A path as tables have it, with backslashes or a leading `./`."""
    return PurePosixPath(name.strip().replace("\\", "/"))


class _Index(dict[str, PurePosixPath]):
    """Finds images by names that tables have, and by paths to `homes`, the table's folder, which `whole` are in."""

    homes: tuple[str, ...] = ()
    whole: Mapping[str, PurePosixPath] = MappingProxyType({})

    def __contains__(self, key: object) -> bool:
        return self.get(str(key)) is not None

    def get(self, key: str, default: Any = None) -> Any:
        plain = _plain(key)
        found = super().get(str(plain))
        if found is not None or len(plain.parts) < 2:
            return default if found is None else found
        # By the text alone: a table may have a million rows.
        absolute = os.path.normpath(Path.cwd() / plain)
        home = next((home for home in self.homes if absolute.startswith(home)), None)
        return default if home is None else self.whole.get(absolute.removeprefix(home), default)


def _index(folder: Path, table: PurePosixPath, paths: Sequence[PurePosixPath]) -> _Index:
    """By path, as of the table's folder, and by file name and stem, where they are unique."""
    whole = {str(path.relative_to(table.parent)): path for path in paths}
    index, home = _Index(whole), folder / table.parent
    index.homes = tuple(f"{os.path.normpath(place)}/" for place in (home.absolute(), home.resolve()))
    index.whole = whole
    for part in (lambda path: path.name, lambda path: path.stem):
        counts = Counter(map(part, paths))
        for path in paths:
            if counts[part(path)] == 1:
                index.setdefault(part(path), path)
    return index


def columns_of(rows: Mapping[PurePosixPath, Mapping[str, Any]]) -> list[str]:
    """The names of all columns, in order."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))
