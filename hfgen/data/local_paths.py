"""A path on this machine -> a table: images, parquet or Arrow files, arrays, archives, or what `datasets` saved."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hfgen.data import archives
from hfgen.data.arrays import Arrays, holds_many
from hfgen.data.columns import IMAGE_NAMES
from hfgen.data.imagefiles import open_images
from hfgen.data.layout import find_splits
from hfgen.data.metadata import SUFFIXES as TABLES
from hfgen.data.tables import Loaded, Table, open_table
from hfgen.errors import DataError, SettingsError
from hfgen.files import cache_dir, visible_files
from hfgen.folders import RESULTS, holds_results

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
_UNREAD = {".heic", ".heif", ".hif", ".avif", ".jxl", ".svg", ".exr", ".hdr"}
_UNREAD |= {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"}
"""Of images, where Pillow doesn't read them: a plug-in of it may."""
_MAGIC = re.compile(r"[*?\[\]{}]")
_DEEPEST = 3
# What a command writes into the folder that --out names.
_DATASET = "dataset"
_PARTS = {
    _DATASET,
    "figures",
    "samples",
    "checkpoints",
    "pretrained",
    "cells",
    "waterfall.png",
    "missing.png",
    "grid.png",
}


@dataclass(frozen=True)
class Opened:
    """A table, or what `datasets` reads it with, and a line each of what was guessed or left out on the way."""

    found: Table | DatasetBuilder
    notes: list[str]

    @cached_property
    def table(self) -> Table:
        """The table; what `datasets` reads is prepared or streamed first."""
        return open_table(self.found) if self.builder is not None else self.found

    @property
    def builder(self) -> DatasetBuilder | None:
        """What `datasets` reads the table with; None: it is a table already."""
        from datasets import DatasetBuilder

        return self.found if isinstance(self.found, DatasetBuilder) else None


@dataclass(frozen=True)
class _Files:
    """What lies below a folder, by kind, relative to it."""

    images: list[PurePosixPath]
    parquet: list[PurePosixPath]
    arrays: list[PurePosixPath]
    archives: list[PurePosixPath]
    tables: list[PurePosixPath]
    unread: list[PurePosixPath]

    @property
    def hold_data(self) -> bool:
        """Whether any is more than a table that may be metadata."""
        return bool(self.images or self.parquet or self.arrays or self.archives)


def open_path(name: str, path: Path, config_name: str | None = None) -> Opened:
    """The table that a folder or a file holds.

    Args:
        name: DATA, for errors.
        path: Where it is.
        config_name: Which of the configurations that a dataset card declares.

    Raises:
        DataError: it holds no images, can't be read, or can be read in more than one way.
        SettingsError: there is no such configuration.
    """
    if path.is_file():
        return _open_file(name, path)
    if (saved := _saved(path)) is not None:
        return Opened(saved, [])
    if _declares_files(path):
        return Opened(load_builder(name, str(_plain(path)), config_name), [])
    if config_name is not None:
        raise SettingsError(f"config_name: {name} declares no configurations; leave it out")
    return _open_folder(name, path, _DEEPEST)


def load_builder(name: str, address: str, config_name: str | None, **options: Any) -> DatasetBuilder:
    """`load_dataset_builder`, whose complaint about configurations names our option.

    Raises:
        SettingsError: there are several configurations and none is named, or none of that name.
    """
    from datasets import load_dataset_builder

    try:
        return load_dataset_builder(address, config_name, **options)
    except ValueError as error:
        # "... Please pick one among the available configs: ['a', 'b']", "... not found. Available: ['a', 'b']"
        if (there := re.search(r"[Aa]vailable(?: configs)?: \[(.*?)\]", str(error))) is None:
            raise
        configs = there[1].replace("'", "")
        said = "has several configurations" if config_name is None else f"has no configuration {config_name!r}"
        raise SettingsError(f"config_name: {name} {said}; use one of {configs}") from None


def _open_file(name: str, path: Path) -> Opened:
    relative = PurePosixPath(path.name)
    if archives.is_archive(path):
        return _open_archives(name, path.parent, [relative], _DEEPEST)
    suffix = path.suffix.lower()
    if suffix == ".arrow":
        from datasets import Dataset

        return Opened(Loaded({"train": Dataset.from_file(str(path))}), [])
    if suffix == ".parquet":
        return Opened(_files_builder("parquet", {"train": [path]}), [])
    if suffix == ".npy" or suffix in _image_suffixes() | _UNREAD:
        return _open_kinds(name, path.parent, _sort([relative]), _DEEPEST)
    if path.name.lower().endswith(archives.FOREIGN):
        raise DataError(f"data: {name} is an archive of another kind than zip and tar; unpack it, and name the folder")
    raise DataError(f"data: {name} is a file; name the folder that holds it")


def _open_folder(name: str, folder: Path, depth: int) -> Opened:
    every = [PurePosixPath(file) for file in visible_files(folder)]
    paths = [path for path in every if not _JUNK & {part.lower() for part in path.parts}]
    if not (results := _results(folder, paths)):
        return _open_kinds(name, folder, _sort(paths), depth)
    if own := [path for path in paths if results.isdisjoint((path, *path.parents))]:
        opened = _open_kinds(name, folder, _sort(own), depth)
        return Opened(opened.found, [f"left out, since hfgen wrote it: {_listed(sorted(results))}", *opened.notes])
    if len(results) == 1 and (folder / min(results) / _DATASET).is_dir():
        return _open_folder(name, folder / min(results), depth)
    raise DataError(f"data: {name} holds only what hfgen wrote, {_listed(sorted(results))}; name one of them")


def _results(folder: Path, paths: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """The outermost folders below that hfgen wrote, such as a run's with its grids, and what it wrote into this one.

    Where there is nothing but an evaluation in this one, that is what is meant.
    """
    found = {path.parent for path in paths if path.name in RESULTS and holds_results(folder / path.parent)}
    top = PurePosixPath()
    if top in found:
        parts = {path for path in paths if path.parts[0] in _PARTS}
        found = {path for path in found - {top} if path.parts[0] != _DATASET}
        own = [path for path in paths if path not in parts and found.isdisjoint(path.parents)]
        if _sort(own).hold_data:
            found |= {PurePosixPath(path.parts[0]) for path in parts}
    return {path for path in found if found.isdisjoint(path.parents)}


def _open_kinds(name: str, folder: Path, files: _Files, depth: int) -> Opened:
    if not files.unread:
        return _open_readable(name, folder, files, depth)
    kinds = Counter(path.suffix.lower() for path in files.unread)
    said = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
    try:
        opened = _open_readable(name, folder, files, depth)
    except DataError as error:
        raise DataError(f"{error} (Pillow doesn't read {said}; convert them to PNG)") from error
    except Exception as error:  # `datasets` found nothing that it knows.
        raise DataError(f"data: {name}: Pillow doesn't read its images ({said}); convert them to PNG") from error
    return Opened(opened.found, [*opened.notes, f"images of kinds that Pillow doesn't read are left out: {said}"])


def _open_readable(name: str, folder: Path, files: _Files, depth: int) -> Opened:
    parquet = [path for path in files.parquet if not files.images or _holds_images(folder / path)]
    if parquet:
        return _open_parquet(name, folder, parquet, files)
    if files.arrays and not files.images and any(holds_many(folder / path) for path in files.arrays):
        arrays = Arrays(name, [folder / path for path in files.arrays])
        return Opened(arrays, arrays.notes)
    if images := sorted(files.images + ([] if files.images else files.arrays)):
        opened, notes = open_images(name, folder, images, files.tables)
        if files.archives:
            notes.append(f"{_listed(files.archives)} beside the images isn't read")
        return Opened(opened, [*notes, *_empty_folders(folder)])
    if files.archives and depth:
        return _open_archives(name, folder, files.archives, depth)
    # `datasets` may know what it is; if not, its error says what is missing.
    return Opened(load_builder(name, str(_plain(folder)), None), [])


def _open_parquet(name: str, folder: Path, parquet: list[PurePosixPath], files: _Files) -> Opened:
    layout = find_splits(name, parquet, sharded=True)
    notes = list(layout.notes)
    if files.images:
        notes.append(f"the {len(files.images)} image files beside the parquet files aren't read")
    if len({path.parent for path in parquet}) > len(layout.splits):
        notes.append(f"the parquet files of {_listed(sorted({path.parent for path in parquet}))} are read together")
    chosen = {split: [folder / parquet[index] for index in indices] for split, indices in layout.splits.items()}
    return Opened(_files_builder("parquet", chosen), notes)


def _open_archives(name: str, folder: Path, paths: Sequence[PurePosixPath], depth: int) -> Opened:
    """Archives as if they were unpacked: one where it lies, several into folders of their names."""
    tars = [path for path in paths if archives.is_tar(folder / path)]
    if len(tars) == len(paths) and any(archives.is_webdataset(folder / path) for path in tars):
        layout = find_splits(name, tars)
        chosen = {split: [folder / tars[index] for index in indices] for split, indices in layout.splits.items()}
        return Opened(_files_builder("webdataset", chosen), list(layout.notes))
    unpacked = [archives.unpack(folder / path) for path in paths]
    if len(paths) == 1:
        return _open_folder(name, unpacked[0], depth - 1)
    names = [str(path.parent / archives.stem(folder / path)) for path in paths]
    return _open_folder(name, _linked(dict(zip(names, unpacked, strict=True))), depth - 1)


def _sort(paths: Iterable[PurePosixPath]) -> _Files:
    kinds: dict[str, list[PurePosixPath]] = {field.name: [] for field in dataclasses.fields(_Files)}
    images = _image_suffixes()
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if archives.is_archive(Path(path)):
            kinds["archives"].append(path)
        elif suffix in images:
            kinds["images"].append(path)
        elif suffix == ".npy":
            kinds["arrays"].append(path)
        elif suffix == ".parquet" and path.stem != "metadata":
            kinds["parquet"].append(path)
        elif suffix in _UNREAD:
            kinds["unread"].append(path)
        if suffix in TABLES:
            kinds["tables"].append(path)
    return _Files(**kinds)


def _image_suffixes() -> set[str]:
    from PIL import Image

    Image.init()
    # Documents and films, which some plugin or other opens with a program of its own.
    other = {".eps", ".ps", ".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr", ".wmf", ".emf", ".fit", ".fits"}
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN} - other


def _holds_images(path: Path) -> bool:
    """Whether a parquet file has a column of images, as far as its schema tells; one that can't be read may."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return True
    return any(field.name.lower() in IMAGE_NAMES or "binary" in str(field.type) for field in schema)


def _saved(folder: Path) -> Loaded | None:
    """What `save_to_disk` of `datasets` wrote."""
    from datasets import Dataset, DatasetDict

    if (folder / "dataset_dict.json").is_file():
        tables: Any = DatasetDict.load_from_disk(str(folder))
        return Loaded(tables)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return Loaded({"train": Dataset.load_from_disk(str(folder))})
    return None


def _declares_files(folder: Path) -> bool:
    """Whether the folder has a dataset card that says which files are which split."""
    from huggingface_hub import metadata_load

    try:
        card = metadata_load(folder / "README.md") if (folder / "README.md").is_file() else None
    except Exception:  # A README without, or with broken, front matter is no card.
        return False
    configs = card.get("configs") if card else None
    return isinstance(configs, list) and any("data_files" in config or "data_dir" in config for config in configs)


def _files_builder(kind: str, files: dict[str, list[Path]]) -> DatasetBuilder:
    from datasets import load_dataset_builder

    return load_dataset_builder(
        kind, data_files={split: [str(_plain(path)) for path in paths] for split, paths in files.items()}
    )


def _plain(path: Path) -> Path:
    """The path, or a link to it where `datasets` would take characters of its name for a pattern."""
    path = path.absolute()
    if not _MAGIC.search(str(path)):
        return path
    return _linked({_MAGIC.sub("_", path.name): path}) / _MAGIC.sub("_", path.name)


def _linked(targets: dict[str, Path]) -> Path:
    """A folder in the cache of links to the targets, by relative path."""
    key = hashlib.sha256(repr(sorted((name, str(target)) for name, target in targets.items())).encode()).hexdigest()[
        :32
    ]
    folder = cache_dir() / "links" / key
    for name, target in targets.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            # Another process may have been faster.
            with contextlib.suppress(FileExistsError):
                link.symlink_to(target)
    return folder


def _empty_folders(folder: Path) -> list[str]:
    """A line on folders that hold nothing: one would look for their class or split in vain."""
    empty = [
        Path(root).relative_to(folder)
        for root, folders, files in os.walk(folder)
        if not folders and not files and root != str(folder) and not Path(root).name.startswith(".")
    ]
    return [f"empty folders: {_listed(sorted(empty))}"] if empty else []


def _listed(paths: Sequence[Any]) -> str:
    shown = ", ".join(str(path) for path in paths[:4])
    return shown + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
