"""The rows of a dataset, images undecoded: prepared on the disk by `datasets`, or streamed where they don't fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hfgen.bars import without_bars
from hfgen.limits import free_disk

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, Features

Batch = tuple[np.ndarray, dict[str, list[Any]]]
"""Row numbers (n,), and n values of each column that was asked for, under our name for it; images undecoded."""

BATCH = 128
CONNECTIONS = 16


class Table(Protocol):
    """The splits of a dataset."""

    features: Features
    splits: list[str]

    def count(self, split: str) -> int:
        """How many rows the split has."""

    def batches(self, split: str, rows: np.ndarray, columns: Mapping[str, str]) -> Iterator[Batch]:
        """The asked rows (ascending), in order; `columns` maps our names to the table's."""

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """How often each value of a column, or of a field of its structures, occurs in all splits."""


def open_table(builder: DatasetBuilder) -> Table:
    """Streamed if the files and their Arrow copy would take more than half of the free disk, else prepared on it.

    Only parquet files are streamed: they say how many rows they have, and hold the images' bytes. Both ways give
    the same rows in the same order.
    """
    prepared = Path(builder.cache_dir).exists()
    return Streamed(builder) if not prepared and _exceeds_disk(builder) else Prepared(builder)


def _exceeds_disk(builder: DatasetBuilder) -> bool:
    if builder.name != "parquet":
        return False
    files = [file for files in builder.config.data_files.values() for file in files]
    system, paths = locate(files)
    return 2 * sum(system.sizes(paths)) > free_disk(Path(builder.cache_dir)) / 2


def locate(files: list[str]) -> tuple[Any, list[str]]:
    """The file system of files of one place, and their paths there."""
    from fsspec.core import url_to_fs

    return url_to_fs(files[0])[0], [url_to_fs(file)[1] for file in files]


class Loaded:
    """Splits that `datasets` holds already: in memory, or as Arrow files."""

    def __init__(self, tables: Mapping[str, Dataset]) -> None:
        self._tables = tables
        self.features = next(iter(tables.values())).features
        self.splits = list(tables)

    def count(self, split: str) -> int:
        """See `Table`."""
        return len(self._tables[split])

    def batches(self, split: str, rows: np.ndarray, columns: Mapping[str, str]) -> Iterator[Batch]:
        """See `Table`."""
        table = _undecoded(self._tables[split], columns)
        for start in range(0, len(rows), BATCH):
            numbers = rows[start : start + BATCH]
            yield numbers, table[numbers]

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """See `Table`."""
        counts: Counter[Any] = Counter()
        for table in self._tables.values():
            counts += _counted(table.select_columns([column]).with_format("arrow")[:].column(0), field)
        return counts


class Prepared(Loaded):
    """All splits, downloaded and copied to Arrow files by `datasets`."""

    def __init__(self, builder: DatasetBuilder) -> None:
        builder.download_and_prepare()
        super().__init__(builder.as_dataset())


class Streamed:
    """Parquet files, read where they are: a row group at a time, nothing kept."""

    def __init__(self, builder: DatasetBuilder) -> None:
        self._builder = builder
        self._files = {str(split): list(files) for split, files in builder.config.data_files.items()}
        builder.config.batch_size = BATCH
        tables = builder.as_streaming_dataset()
        self.features = next(iter(tables.values())).features
        self.splits = list(tables)

    def count(self, split: str) -> int:
        """See `Table`; from the files' footers."""
        import pyarrow.parquet as pq

        system, paths = locate(self._files[split])

        def rows(path: str) -> int:
            with system.open(path, "rb") as file:
                return pq.read_metadata(file).num_rows

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(rows, paths))

    def batches(self, split: str, rows: np.ndarray, columns: Mapping[str, str]) -> Iterator[Batch]:
        """See `Table`; rows before the asked ones, and between them, are read and dropped."""
        # All other columns stay where they are.
        self._builder.config.columns = list(columns.values())
        tables, first = self._builder.as_streaming_dataset(), 0
        for batch in _undecoded(tables[split], columns).iter(BATCH):
            stop = first + len(batch["image"])
            numbers = rows[slice(*np.searchsorted(rows, [first, stop]))]
            if len(numbers):
                yield numbers, {name: [values[row - first] for row in numbers] for name, values in batch.items()}
            if stop > rows[-1]:
                return
            first = stop

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """See `Table`; of all files that one column is read."""
        counts: Counter[Any] = Counter()
        for files in self._files.values():
            system, paths = locate(files)
            for path in paths:
                counts += column_counts(system, column, field, path)
        return counts


def column_counts(system: Any, column: str, field: str | None, path: str) -> Counter[Any]:
    """How often each value of a column, or of a field of its structures, occurs in a parquet file."""
    import pyarrow.parquet as pq

    # What is asked for and no more: the column lies in small pieces between the images.
    with system.open(path, "rb", cache_type="none") as file:
        return _counted(pq.read_table(file, columns=[column]).column(0), field)


def _counted(column: Any, field: str | None) -> Counter[Any]:
    import pyarrow.compute as pc

    found = pc.value_counts(pc.struct_field(column, field) if field else column)
    # A Counter's sum drops nothing: each count is positive.
    return Counter({row["values"]: row["counts"] for row in found.to_pylist()})


def _undecoded(table: Any, columns: Mapping[str, str]) -> Any:
    """Only the asked columns, under our names; images as bytes and path."""
    from datasets import Image, List

    table = table.select_columns(list(columns.values()))
    for column in columns.values():
        feature = table.features[column]
        if isinstance(feature, Image):
            table = table.cast_column(column, Image(decode=False))
        elif isinstance(feature, List) and isinstance(feature.feature, Image):
            with without_bars("datasets"):
                table = table.cast_column(column, List(Image(decode=False)))
    return table.rename_columns({theirs: ours for ours, theirs in columns.items() if theirs != ours})
