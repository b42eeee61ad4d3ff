"""Images of a loopback Hub's shards, streamed, against the same from a folder and from a store, a second and core.

A worker is a process, as one of a run's; those of a row share the shards on the disk and go in step, batch by batch.
The Hub is that of the tests, in a process of its own; its time isn't counted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

BATCH, HELD, SHARDS, SEED = 32, 2, 8, 0


@dataclass(frozen=True)
class Worker:
    """What one process did in an epoch: images, the CPU seconds of all its threads, and the shards that it decoded."""

    images: int
    seconds: float
    decoded: int


def measure(resolution: int, count: int, write: Any) -> Iterator[str]:
    """The rows of one resolution, of `count` images in all, which `write` writes: file, side and number."""
    from hfgen.data import open_store

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "set")
        folder.mkdir()
        for shard in range(SHARDS):
            write(folder / f"train-{shard:05d}-of-{SHARDS:05d}.parquet", resolution * 5 // 4, count // SHARDS)
        with _hub(Path(place, "hub"), folder) as endpoint:
            for name, data, own, workers in (
                ("streamed from a Hub", "org/set", {"HF_ENDPOINT": endpoint}, 1),
                ("streamed from a Hub", "org/set", {"HF_ENDPOINT": endpoint}, 2),
                ("streamed from a folder", str(folder), {}, 1),
            ):
                environment = {**own, "HF_HOME": f"{place}/home", "HFGEN_CACHE": f"{place}/{name}{workers}"}
                yield _row(name, resolution, _run(data, resolution, workers, environment))
        os.environ["HFGEN_CACHE"] = f"{place}/store"
        started = time.process_time()
        store = open_store(str(folder), split="all", resolution=resolution)
        yield _row(
            "decoded into a store, once", resolution, [Worker(len(store), time.process_time() - started, SHARDS)]
        )
        started = time.process_time()
        for seen in range(0, len(store), BATCH):
            store.share(seen, BATCH, SEED)
        yield _row("gathered from the store", resolution, [Worker(len(store), time.process_time() - started, 0)])


HEADER = f"{'what':<28} {'workers':>7} {'px':>4} {'images/s/core':>14}  shards decoded by each, of {SHARDS}"


def _row(what: str, resolution: int, workers: list[Worker]) -> str:
    rate = sum(worker.images for worker in workers) / sum(worker.seconds for worker in workers)
    decoded = ", ".join(str(worker.decoded) for worker in workers)
    return f"{what:<28} {len(workers):>7} {resolution:>4} {rate:>14,.0f}  {decoded}"


@contextlib.contextmanager
def _hub(place: Path, folder: Path) -> Iterator[str]:
    """The address of a Hub that serves the folder as the dataset org/set."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(place, folder, theirs), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()


def _serve(place: Path, folder: Path, connection: Any) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from hub import Hub  # type: ignore[import-not-found]

    with Hub(place) as hub:
        hub.storage.add_folder(hub.storage.create("dataset", "org/set"), folder)
        connection.send(hub.endpoint)
        time.sleep(10**6)


def _run(data: str, resolution: int, workers: int, environment: dict[str, str]) -> list[Worker]:
    """One epoch of so many workers; the Hub's address is read at import, so that they are new processes."""
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(workers)
    before = dict(os.environ)
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ.update(environment, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    started = [
        context.Process(target=_work, args=(data, resolution, rank, workers, barrier, queue)) for rank in range(workers)
    ]
    try:
        for process in started:
            process.start()
        found: list[tuple[int, Worker]] = []
        while len(found) < workers:
            try:
                found.append(queue.get(timeout=1))
            except Empty:
                if any(process.exitcode for process in started):
                    raise SystemExit("a worker failed") from None
        for process in started:
            process.join()
    finally:
        # The others wait for one that failed.
        for process in started:
            if process.is_alive():
                process.kill()
                process.join()
        os.environ.clear()
        os.environ.update(before)
    return [worker for _, worker in sorted(found, key=lambda pair: pair[0])]


def _work(data: str, resolution: int, rank: int, workers: int, barrier: Any, queue: Any) -> None:
    import torch

    from hfgen.data import open_stream
    from hfgen.data.shards import Shards

    torch.set_num_threads(1)
    decoded, opened = list[int](), Shards.opened

    def counted(shards: Shards, split: str, shard: int, fetched: Path) -> Any:
        decoded.append(shard)
        return opened(shards, split, shard, fetched)

    Shards.opened = counted  # type: ignore[assignment, method-assign]
    asked: dict[str, Any] = {
        "split": "all",
        "resolution": resolution,
        "channels": 3,
        "small_images": "refuse",
        "skip_damaged": False,
    }
    with contextlib.closing(open_stream(data, held=HELD, seed=SEED, run="a benchmark", **asked)) as stream:
        barrier.wait()
        decoded.clear()
        # From within an epoch, so that no shard is there already but those that a run would have.
        first, started = len(stream), time.process_time()
        for seen in range(first, first + len(stream), BATCH * workers):
            stream.share(seen, BATCH * workers, SEED, rank, workers)
            barrier.wait()
        seconds = time.process_time() - started
    queue.put((rank, Worker(len(stream) // workers, seconds, len(decoded))))
