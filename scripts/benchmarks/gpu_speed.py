"""The parts `compiling` and `speed` of `benchmark.py gpu`: images a second of each family, beside a bare loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu_settings import FAMILIES, LeftOut, Row, Settings, Value, make_trainer

_BATCHES = {32: 1024, 64: 512, 256: 32}
_MODES = {"eager": "off", "compiled": "default", "CUDA graphs": "reduce-overhead"}
_GOALS = [("vaegan-imagenet256", 256), *((family, 32) for family in FAMILIES)]
_OTHERS = [*((family, 64) for family in FAMILIES), ("vqgan-imagenet256", 256)]
_TOYS = [("vae", 16), ("gan", 16)]


def compiling(settings: Settings) -> Iterator[Row]:
    """Networks of what `speed` measures first, compiled by many processes at once: the compiler keeps what it made."""
    recipes = _TOYS if settings.toy else _GOALS
    yield f"{len(recipes)} recipes at once", partial(_compile_all, settings, recipes)


def _compile_all(settings: Settings, recipes: list[tuple[str, int]]) -> dict[str, Value]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if settings.device != "cuda":
        raise LeftOut("networks are compiled by default on a GPU only")
    with ProcessPoolExecutor(len(recipes), get_context("spawn")) as pool:
        futures = {recipe: pool.submit(_compile, settings, recipe, side) for recipe, side in recipes}
        return {f"{recipe}, s": future.result() for recipe, future in futures.items()}


def _compile(settings: Settings, recipe: str, side: int) -> float:
    """Seconds until four steps are done."""
    started = time.perf_counter()
    trainer = make_trainer(settings, recipe, side, _BATCHES.get(side, 8), "--compiled=default")
    for _ in range(4):
        trainer.step()
    return time.perf_counter() - started


def speed(settings: Settings) -> Iterator[Row]:
    """Images a second of each family, eager, compiled and with CUDA graphs, beside a bare loop."""
    modes = _MODES if settings.device == "cuda" else {"eager": "off"}
    for sizes in [_TOYS] if settings.toy else [_GOALS, _OTHERS]:
        for name, mode in modes.items():
            for recipe, side in sizes:
                if mode == "reduce-overhead" and side == 256:
                    # Its kernels are long: nothing is bound by launches.
                    continue
                yield f"{recipe} at {side} px, {name}", partial(_rate, settings, recipe, side, mode)


def _rate(settings: Settings, recipe: str, side: int, mode: str) -> dict[str, Value]:
    """The largest batch of a few that fits."""
    import torch

    batch = 8 if settings.toy else _BATCHES[side]
    while True:
        try:
            return _rate_of_batch(settings, recipe, side, mode, batch)
        except torch.OutOfMemoryError:
            if batch < 16:
                raise
            batch //= 2
            torch.cuda.empty_cache()


def _rate_of_batch(settings: Settings, recipe: str, side: int, mode: str, batch: int) -> dict[str, Value]:
    import statistics

    import torch

    from benchmarks.bare import LOSSES, BareLoop
    from benchmarks.timing import flops_of, matmul_rate, paired_rounds, repeated, steps_for
    from hfgen.images import to_float

    torch._dynamo.reset()
    trainer = make_trainer(settings, recipe, side, batch, f"--compiled={mode}")
    device, loops = trainer.device, {"hfgen": repeated(trainer.step)}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = steps_for(0.05 if settings.toy else 0.7, trainer.step, device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    bare = None
    if trainer.config.family in LOSSES:
        kernels = trainer.kernels
        images = to_float(trainer.store.images[:]).to(device)
        bare = BareLoop(trainer.config, images, kernels.precision, kernels.memory_format)
        loops["bare"] = repeated(bare.step)
    seconds = paired_rounds(loops, count, 3, device)
    rate = count * batch / statistics.median(seconds["hfgen"])
    found: dict[str, Value] = {"batch": batch, "images/s": rate, "peak GiB": memory}
    if bare is not None:
        pairs = zip(seconds["bare"], seconds["hfgen"], strict=True)
        found["of the bare loop"] = statistics.median(theirs / own for theirs, own in pairs)
        found["of the matmul rate"] = flops_of(bare.step) / batch * rate / matmul_rate(device)
    goal = {"vaegan-imagenet256": 111}.get(recipe, 85_000 if side == 32 else None)
    if goal is not None and not settings.toy:
        found |= {"goal": goal, "goal held": rate >= goal}
    return found
