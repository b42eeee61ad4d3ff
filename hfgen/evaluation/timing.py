"""What an image costs: time and memory of sampling and of reconstructing, after warm-up, with their spread."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch

from hfgen.devices import device_name, return_free_memory, synchronise
from hfgen.errors import UserError
from hfgen.evaluation import passes
from hfgen.pipelines import ImagePipeline
from hfgen.seeds import derive_seed

BATCH_SIZE = 32
_WARM_UP, _REPEATS = 2, 7
_MEMORY_EVERY_SECONDS = 0.002


def measure_costs(pipeline: ImagePipeline, *, batch_size: int | None = None, repeats: int = _REPEATS) -> dict[str, Any]:
    """Run batches as the pipeline is, on its device, and time them; two before that don't count.

    By default a batch has 32 images, or as many as `hfgen evaluate` gives the model at once, where these are fewer.

    Returns JSON values: `device`, `threads` (CPU threads of an operation), `batch_size`, `repeats`, and for
    `sampling` and `reconstruction`, where the model does it:
    `milliseconds_per_image` {`median`, `lowest`, `highest`} over the batches; `bytes_per_image`, alike, of the memory
    that a batch took beyond what was held before it; `peak_bytes`, the most that the process held (on a GPU: PyTorch
    there). They depend on the machine and its load, and differ from run to run.

    Raises:
        UserError: a batch size or a number of repeats below 1.
    """
    if batch_size is None:
        batch_size = min(BATCH_SIZE, passes.batch_size(pipeline.sample_size))
    for name, value in (("batch_size", batch_size), ("repeats", repeats)):
        if value < 1:
            raise UserError(f"{name}: {value} can't be timed; give 1 or more")
    pipeline.set_progress_bar_config(disable=True)
    costs: dict[str, Any] = {
        "device": device_name(pipeline.device),
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "repeats": repeats,
    }
    if pipeline.can_sample:
        costs["sampling"] = _cost(_sampling(pipeline, batch_size), pipeline.device, batch_size, repeats)
    if pipeline.can_reconstruct:
        costs["reconstruction"] = _cost(_reconstruction(pipeline, batch_size), pipeline.device, batch_size, repeats)
    return costs


def _sampling(pipeline: ImagePipeline, batch_size: int) -> Callable[[], Any]:
    seeds = [derive_seed("timing", index) for index in range(batch_size)]
    return lambda: pipeline(
        batch_size=batch_size,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    )


def _reconstruction(pipeline: ImagePipeline, batch_size: int) -> Callable[[], Any]:
    """Of noise: what the pixels are doesn't change the work."""
    channels = pipeline.channels + (pipeline.paired_with[1] if pipeline.paired_with else 0)
    generator = torch.Generator().manual_seed(derive_seed("timing"))
    images = torch.rand(batch_size, channels, *[pipeline.sample_size] * 2, generator=generator) * 2 - 1
    return lambda: pipeline.reconstruct(images, output_type="pt")


def _cost(run: Callable[[], Any], device: torch.device, batch_size: int, repeats: int) -> dict[str, Any]:
    for _ in range(_WARM_UP):
        run()
    durations = []
    for _ in range(repeats):
        started = _now(device)
        run()
        durations.append(_now(device) - started)
    # Apart from the timing, which taking memory anew would slow.
    memories = []
    for _ in range(repeats):
        with _memory(device) as memory:
            run()
        memories.append(memory)
    return {
        "milliseconds_per_image": _spread([1000 * duration / batch_size for duration in durations]),
        "bytes_per_image": _spread([(memory["peak"] - memory["before"]) / batch_size for memory in memories]),
        "peak_bytes": max(memory["peak"] for memory in memories),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def _now(device: torch.device) -> float:
    synchronise(device)
    return time.perf_counter()


@contextlib.contextmanager
def _memory(device: torch.device) -> Iterator[dict[str, int]]:
    """`before` and, once left, `peak`, in bytes: of PyTorch on a GPU, else the resident memory, looked at often."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        memory = {"before": torch.cuda.memory_allocated(device), "peak": 0}
        yield memory
        memory["peak"] = torch.cuda.max_memory_allocated(device)
        return
    # So that a batch takes its memory from the system, where it is seen.
    return_free_memory()
    process, done = psutil.Process(), threading.Event()
    resident = process.memory_info().rss
    memory = {"before": resident, "peak": resident}

    def watch() -> None:
        while not done.wait(_MEMORY_EVERY_SECONDS):
            memory["peak"] = max(memory["peak"], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()
