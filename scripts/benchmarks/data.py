"""How fast batches are gathered from a store on one core, as the training loop does it: no network, no decoding.

Random pixels go through the real store, into memory, or mapped because the process may not hold them
(`ulimit -d`). A bar holds for the median round. `--decode N` instead fills stores from N JPEG files in parquet, which
a run does once, before its first step, and `--stream N` reads them shard by shard, from a Hub on loopback too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import streams

if TYPE_CHECKING:
    import torch

    from hfgen.data import ImageStore
    from hfgen.data.sources import Source
    from hfgen.data.split_images import Chunk, Part, Request

BARS = {32: 100_000, 64: 40_000, 256: None}
"""Images a second on one core, by resolution."""

_SEED = 0
_CHUNK = 256


@dataclass(frozen=True)
class Row:
    """The rates (images a second) of one thing, a round each, and the least that the median should be."""

    what: str
    resolution: int
    rates: list[float]
    bar: int | None

    @property
    def passed(self) -> bool:
        """Whether the median reaches the bar."""
        return self.bar is None or statistics.median(self.rates) >= self.bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--batch_size", type=int, default=64, help="images in a batch")
    parser.add_argument("--megabytes", type=int, default=200, help="least size of a store; more than the CPU's caches")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each row")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds that a round takes")
    parser.add_argument("--decode", type=int, metavar="N", help="decode N images of parquet into stores, instead")
    parser.add_argument("--stream", type=int, metavar="N", help="stream N images of shards of parquet, instead")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, and return the exit code."""
    import torch

    torch.set_num_threads(1)
    if arguments.stream:
        print(streams.HEADER)
        for resolution in BARS:
            for line in streams.measure(resolution, arguments.stream, _write_parquet):
                print(line, flush=True)
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HFGEN_CACHE"] = cache
        for resolution in BARS:
            if arguments.decode:
                rows.append(decode(resolution, arguments.decode, arguments.rounds))
            else:
                rows += measure(resolution, arguments)
    print(table(rows))
    return int(arguments.check and not all(row.passed for row in rows))


def table(rows: list[Row]) -> str:
    """The rows in columns."""
    line = "{:<38} {:>4} {:>14} {:>24} {:>8} {:>6}".format
    lines = [line("what", "px", "images/s/core", "lowest to highest", "bar", "passed")]
    for row in rows:
        spread = f"{min(row.rates):,.0f} to {max(row.rates):,.0f}"
        bar, passed = ("-", "-") if row.bar is None else (f"{row.bar:,}", "yes" if row.passed else "no")
        lines.append(line(row.what, row.resolution, f"{statistics.median(row.rates):,.0f}", spread, bar, passed))
    return "\n".join(lines)


def measure(resolution: int, arguments: argparse.Namespace) -> list[Row]:
    """The rows of one resolution."""
    from hfgen.images import to_float

    values = 3 * resolution**2
    # Half of the store, to which the memory is limited below, holds some batches of float32.
    count = max(arguments.megabytes * 10**6 // values, 32 * arguments.batch_size)
    open_random = partial(_open_random, resolution, count)
    row = partial(Row, resolution=resolution, bar=BARS[resolution])
    rounds = range(arguments.rounds)
    store = open_random()
    gather = partial(_rate, arguments=arguments)
    rows = [
        row("in memory: gather", rates=[gather(store) for _ in rounds]),
        row("in memory: gather, to float", rates=[gather(store, to_float) for _ in rounds]),
    ]
    size = store.images.nbytes
    del store
    with _memory_below(size) as limited:
        if not limited:
            return rows
        store = open_random()
        if store.mapping is None:
            raise RuntimeError(f"{size} bytes were loaded into less memory than that")
        gather(store)
        rows.append(row("mapped, cached: gather, to float", rates=[gather(store, to_float) for _ in rounds]))
        del store
        cold = [_from_disk(open_random, arguments.batch_size) for _ in rounds]
        rows.append(Row("mapped, from the disk: gather", resolution, cold, bar=None))
    return rows


def decode(resolution: int, count: int, rounds: int) -> Row:
    """JPEG files a quarter larger than the store's images, in parquet: read, decoded, cropped, resized, written.

    By the CPU time of all threads, so that it is what one core does.
    """
    from hfgen.data import open_store

    rates = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            _write_parquet(Path(folder) / "train.parquet", resolution * 5 // 4, count)
            started = time.process_time()
            store = open_store(folder, split="all", resolution=resolution)
            rates.append(len(store) / (time.process_time() - started))
    return Row("parquet of JPEG, decoded into a store", resolution, rates, bar=None)


def _write_parquet(path: Path, side: int, count: int) -> None:
    """Images of side x 4/3 side, smooth with a little noise, as photographs are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    random = np.random.default_rng(_SEED)
    size = (side * 4 // 3, side)
    rows = []
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(coarse, np.int16) + random.integers(-8, 9, (size[1], size[0], 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        rows.append({"image": {"bytes": file.getvalue(), "path": f"{index}.jpg"}})
    pq.write_table(pa.Table.from_pylist(rows), path)


def _rate(
    store: ImageStore,
    then: Callable[[torch.Tensor], torch.Tensor] = lambda pixels: pixels,
    *,
    arguments: argparse.Namespace,
) -> float:
    """Images a second of a round, the choice of the indices among it."""
    from hfgen.data import batch_indices

    seen, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < arguments.seconds:
        then(store.gather(batch_indices(len(store), seen, arguments.batch_size, _SEED)))
        seen += arguments.batch_size
    return seen / seconds


def _from_disk(open_random: Callable[[], ImageStore], batch_size: int) -> float:
    """Images a second while each is seen for the first time, after the system has let go of the file."""
    from hfgen.data import batch_indices
    from hfgen.files import cache_dir

    for path in cache_dir().glob("stores/*/images.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    store = open_random()
    # A tenth of the images: what the disk reads ahead would soon hold the rest.
    images = max(batch_size, len(store) // 10)
    start = time.perf_counter()
    for seen in range(0, images, batch_size):
        store.gather(batch_indices(len(store), seen, batch_size, _SEED))
    return images / (time.perf_counter() - start)


@contextlib.contextmanager
def _memory_below(size: int) -> Iterator[bool]:
    """A limit that leaves half of `size` bytes; False where the system has no such limit."""
    import psutil  # type: ignore[import-untyped]

    if not hasattr(psutil, "RLIMIT_DATA"):
        yield False
        return
    process = psutil.Process()
    before = process.rlimit(psutil.RLIMIT_DATA)
    process.rlimit(psutil.RLIMIT_DATA, (process.memory_info().data + size // 2, before[1]))
    try:
        yield True
    finally:
        process.rlimit(psutil.RLIMIT_DATA, before)


def _open_random(resolution: int, count: int) -> ImageStore:
    """A store of random RGB pixels: drawn and written at the first time only."""
    from hfgen.data.split_images import Request
    from hfgen.data.store import open_source

    request = Request("train", resolution, 3, "refuse", skip_damaged=False)
    return open_source(_random_source(count), request)


def _random_source(count: int) -> Source:
    import numpy as np
    import torch

    from hfgen.data.sources import Source
    from hfgen.data.split_images import Chunk, Part

    def chunks(shape: tuple[int, int, int]) -> Iterator[Chunk]:
        generator = np.random.default_rng(_SEED)
        for start in range(0, count, _CHUNK):
            pixels = generator.integers(0, 256, (min(_CHUNK, count - start), *shape), np.uint8)
            yield Chunk(torch.from_numpy(pixels), labels=None, skipped=0)

    def open_part(request: Request) -> Part:
        shape = (3, request.resolution, request.resolution)
        return Part((count, *shape), None, chunks(shape), request.split)

    return Source("random pixels", f"random {count}", open_part, lambda split: (split, count))
