"""A split of parquet files, shard by shard: what their footers say, and one of them on this machine."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfgen.data.split_images import attempt
from hfgen.data.tables import CONNECTIONS, Streamed, column_counts, locate
from hfgen.hub.calls import retried

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_ATTEMPTS = 4
REMEDY = "check the connection and the file, and repeat the command: a run goes on from its newest checkpoint"


class Footer(NamedTuple):
    """What a parquet file says of itself: its size in bytes, its rows, and the SHA-256 (hex) of its metadata."""

    size: int
    rows: int
    digest: str


class Shards(Streamed):
    """The files of each split. Of a file nothing is read but its footer and, where labels are, their column.

    Args:
        name: DATA, for errors.
        builder: What `datasets` reads the parquet files with.
    """

    def __init__(self, name: str, builder: DatasetBuilder) -> None:
        super().__init__(builder)
        self._name = name
        self.footers, self.split_values = cache(self._footers), cache(self._split_values)

    def count(self, split: str) -> int:
        """See `Table`."""
        return sum(footer.rows for footer in self.footers(split))

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """See `Table`."""
        return sum((self.split_values(split, column, field) for split in self.splits), Counter[Any]())

    def called(self, split: str, shard: int) -> str:
        """What errors call a shard."""
        return f"{self._files[split][shard].rpartition('/')[2]} of {self._name}"

    @contextlib.contextmanager
    def opened(self, split: str, shard: int, fetched: Path) -> Iterator[Streamed]:
        """The table of one shard, whose split has the same name; a remote file lies at `fetched` meanwhile.

        Raises:
            DataError: it can't be fetched.
        """
        from fsspec.callbacks import TqdmCallback
        from fsspec.implementations.local import LocalFileSystem

        system, (path,) = locate([self._files[split][shard]])
        if isinstance(system, LocalFileSystem):
            yield self._alone(split, path)
            return

        def fetch() -> None:
            # Without it huggingface_hub would draw a bar for each shard.
            system.get_file(path, str(fetched), callback=TqdmCallback({"disable": True}))

        try:
            attempt(self.called(split, shard), lambda: retried(fetch, attempts=_ATTEMPTS), REMEDY)
            yield self._alone(split, str(fetched))
        finally:
            fetched.unlink(missing_ok=True)

    def _alone(self, split: str, path: str) -> Streamed:
        """A file here, read as one of the table's: with its features, which the file itself needn't declare."""
        builder = copy.copy(self._builder)
        builder.config, builder.info = copy.copy(builder.config), copy.copy(builder.info)
        builder.config.data_files, builder.config.columns, builder.info.features = {split: [path]}, None, self.features
        return Streamed(builder)

    def _footers(self, split: str) -> list[Footer]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        system, paths = locate(self._files[split])

        def read(path: str) -> Footer:
            with system.open(path, "rb") as file:
                metadata, sink = pq.read_metadata(file), pa.BufferOutputStream()
                metadata.write_metadata_file(sink)
                return Footer(file.seek(0, 2), metadata.num_rows, hashlib.sha256(sink.getvalue()).hexdigest())

        return self._each(split, paths, read)

    def _split_values(self, split: str, column: str, field: str | None) -> Counter[Any]:
        system, paths = locate(self._files[split])
        return sum(self._each(split, paths, partial(column_counts, system, column, field)), Counter[Any]())

    def _each(self, split: str, paths: list[str], read: Any) -> list[Any]:
        """What `read` gives for each file, many at a time."""

        def one(shard: int) -> Any:
            call = partial(retried, partial(read, paths[shard]), attempts=_ATTEMPTS)
            return attempt(self.called(split, shard), call, REMEDY)

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(one, range(len(paths))))


def identity(facts: Mapping[str, Any], footers: list[Footer]) -> str:
    """A SHA-256 (hex) of what is asked of shards and of what their footers say, wherever they lie."""
    return hashlib.sha256(repr((sorted(facts.items()), footers)).encode()).hexdigest()
