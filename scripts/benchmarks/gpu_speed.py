"""`compiling`, `speed` and `sizes` of `benchmark.py gpu`: images a second of each family, beside a bare loop."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.gpu_settings import FAMILIES, LeftOut, Row, Settings, Value, made_once, make_trainer
from benchmarks.gpu_turns import InTurn

_MODES = {"compiled": "default", "CUDA graphs": "reduce-overhead", "eager": "off"}
# A recipe, its pixels a side and its batch.
Case = tuple[str, int, int]
_GOALS: list[Case] = [("vaegan-imagenet256", 256, 32), *((family, 32, 1024) for family in FAMILIES)]
# With so many images the card and not Python bounds a compiled step.
_LARGE: list[Case] = [(family, 32, 4096) for family in FAMILIES]
_OTHERS: list[Case] = [*((family, 64, 512) for family in FAMILIES), ("vqgan-imagenet256", 256, 32)]
_TOYS: list[Case] = [("vae", 16, 8), ("gan", 16, 8)]
# What cuBLAS, cuDNN and CUTLASS call kernels of matrix products and convolutions.
_PRODUCTS = re.compile("gemm|conv|cutlass|xmma|implicit|wgrad|dgrad|nvjet|winograd", re.IGNORECASE)


def compiling(settings: Settings) -> Iterator[Row]:
    """Networks of what `speed` measures compiled, all at once: the compiler keeps what it made."""
    yield from _compiled(settings, _TOYS if settings.toy else [*_GOALS, *_LARGE])


def compiling_others(settings: Settings) -> Iterator[Row]:
    """The same of what `sizes` measures."""
    yield from _compiled(settings, _TOYS[:1] if settings.toy else _OTHERS)


def _compiled(settings: Settings, cases: list[Case]) -> Iterator[Row]:
    chosen = [case for case in cases if settings.device != "cuda" or _fits_beside_others(case[1])]
    yield f"{len(chosen)} recipes at once", partial(_compile_all, settings, chosen)


def _fits_beside_others(side: int) -> bool:
    """Gradients are checked in 60 GiB at 256 px, and in as much of all smaller networks together."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory > (100 if side == 256 else 70) * 2**30


def _compile_all(settings: Settings, cases: list[Case]) -> dict[str, Value]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if settings.device != "cuda":
        raise LeftOut("networks are compiled by default on a GPU only")
    if not cases:
        raise LeftOut("the card is too small for several at once")
    with ProcessPoolExecutor(len(cases), get_context("spawn")) as pool:
        futures = {case: pool.submit(_compile, settings, *case) for case in cases}
        return {
            f"{recipe} at {side} px, batch {batch:,}, s": future.result()
            for (recipe, side, batch), future in futures.items()
        }


def _compile(settings: Settings, recipe: str, side: int, batch: int) -> float:
    """Seconds until four steps are done."""
    started = time.perf_counter()
    trainer = make_trainer(settings, recipe, side, batch, "--compiled=default")
    for _ in range(4):
        trainer.step()
    return time.perf_counter() - started


def speed(settings: Settings) -> Iterator[Row]:
    """Images a second of what has a goal, compiled, with CUDA graphs and eager, beside a bare loop."""
    yield from _rates(settings, _TOYS if settings.toy else _GOALS, [] if settings.toy else _LARGE)


def sizes(settings: Settings) -> Iterator[Row]:
    """The same of the 64 px families, and of KL-f8 with a perceptual distance and VQGAN at 256 px."""
    yield from _rates(settings, _TOYS[:1] if settings.toy else _OTHERS)
    recipe, side, batch = ("vaegan", 16, 8) if settings.toy else _GOALS[0]
    yield f"{recipe} at {side} px, with ResNet-50's distance", partial(_perceptual_rate, settings, recipe, side, batch)


def _rates(settings: Settings, cases: list[Case], large: Sequence[Case] = ()) -> Iterator[Row]:
    modes = _MODES if settings.device == "cuda" else {"eager": "off"}
    for name, mode in modes.items():
        for recipe, side, batch in [*cases, *(large if mode == "default" else ())]:
            if mode == "reduce-overhead" and side == 256:
                # Its kernels are long: nothing is bound by launches.
                continue
            size = f"{side} px, batch {batch:,}" if (recipe, side, batch) in large else f"{side} px"
            yield f"{recipe} at {size}, {name}", _work(settings, recipe, side, mode, batch)


def _work(settings: Settings, recipe: str, side: int, mode: str, batch: int) -> Callable[[], dict[str, Value]]:
    """What is compiled is prepared beside others; the rest takes no time but memory."""
    work = partial(_rate, settings, recipe, side, mode, batch)
    beside = settings.toy or (mode != "off" and _fits_beside_others(side))
    return InTurn(work) if beside else partial(work, ready=lambda: None)


def _rate(
    settings: Settings, recipe: str, side: int, mode: str, batch: int, ready: Callable[[], None]
) -> dict[str, Value]:
    """Of this batch, or of the largest half of it that fits; `ready` is called before anything is timed."""
    import torch

    from hfgen.errors import SettingsError

    while True:
        try:
            return _rate_of_batch(settings, recipe, side, mode, batch, ready)
        except (torch.OutOfMemoryError, SettingsError) as error:
            # The check of compiled gradients tells of it in words.
            if batch < 16 or "out of memory" not in str(error):
                raise
            batch //= 2
            torch.cuda.empty_cache()


def _rate_of_batch(
    settings: Settings, recipe: str, side: int, mode: str, batch: int, ready: Callable[[], None], *more: str
) -> dict[str, Value]:
    import statistics

    import torch

    from benchmarks.bare import LOSSES, BareLoop
    from benchmarks.timing import flops_of, matmul_rate, paired_rounds, repeated, steps_for
    from hfgen.devices import device_name
    from hfgen.images import to_float

    torch._dynamo.reset()
    trainer = make_trainer(settings, recipe, side, batch, f"--compiled={mode}", *more)
    device, loops, bare = trainer.device, {"hfgen": repeated(trainer.step)}, None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    loops["hfgen"](8)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    if trainer.config.family in LOSSES:
        kernels = trainer.kernels
        images = to_float(trainer.store.images[:]).to(device)
        bare = BareLoop(trainer.config, images, kernels.precision, kernels.memory_format)
        loops["bare"] = repeated(bare.step)
        flops = flops_of(bare.step)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    ready()
    count = steps_for(0.05 if settings.toy else 0.7, trainer.step, device)
    seconds = paired_rounds(loops, count, 3, device)
    rate = count * batch / statistics.median(seconds["hfgen"])
    found: dict[str, Value] = {"batch": batch, "images/s": rate, "peak GiB": memory}
    if bare is not None:
        pairs = zip(seconds["bare"], seconds["hfgen"], strict=True)
        found["of the bare loop"] = statistics.median(theirs / own for theirs, own in pairs)
        found["of the matmul rate"] = flops / batch * rate / matmul_rate(device)
    if device.type == "cuda":
        found |= _busy(trainer.step, 8, seconds_of_step=batch / rate)
    goal = _goal(recipe, side, device_name(device))
    if goal is not None and not (settings.toy or more):
        found |= {"goal": goal, "goal held": rate >= goal}
    return found


def _goal(recipe: str, side: int, card: str) -> int | None:
    """Images a second that are hoped for: of KL-f8 111 on any card, and 150 on an H200, whose memory is the fastest."""
    if recipe == "vaegan-imagenet256":
        return 150 if " H200" in card else 111
    return 85_000 if side == 32 else None


def _busy(step: Callable[[], None], count: int, seconds_of_step: float) -> dict[str, Value]:
    """The share of a step in which the card computes, and of that the share of convolutions and matrix products."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(count):
            step()
    kernels = [
        (event.name, event.self_device_time_total / 1e6)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    if not kernels:
        return {}
    busy = sum(seconds for _, seconds in kernels)
    products = sum(seconds for name, seconds in kernels if _PRODUCTS.search(name))
    return {"the card computes": busy / count / seconds_of_step, "of that, products": products / busy}


def _perceptual_rate(settings: Settings, recipe: str, side: int, batch: int) -> dict[str, Value]:
    """With a perceptual distance by the features of a ResNet-50, with random weights, which cost the same."""
    from transformers import ResNetConfig, ResNetModel

    from hfgen.files import write_json

    def make(folder: Path) -> None:
        small = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]} if settings.toy else {}
        ResNetModel(ResNetConfig(**small)).save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", {"size": side if settings.toy else 224})

    folder = made_once(settings.out / "resnet", make)
    mode = "default" if settings.device == "cuda" else "off"
    return _rate_of_batch(settings, recipe, side, mode, batch, lambda: None, f"--model.perceptual={folder}")
