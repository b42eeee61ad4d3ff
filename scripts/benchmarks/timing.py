"""How the benchmarks time a step: in paired rounds, and against what the device's matrix product reaches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hfgen.devices import synchronise
from hfgen.kernels import choose_kernels


def repeated(step: Callable[[], None]) -> Callable[[int], None]:
    """The step, so many times."""

    def steps(count: int) -> None:
        for _ in range(count):
            step()

    return steps


Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds_of(call: Callable[[], None], device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Seconds of a call, and of what it gave the device to do, by this clock."""
    synchronise(device)
    started = clock()
    call()
    synchronise(device)
    return clock() - started


def steps_for(seconds: float, step: Callable[[], None], device: torch.device, clock: Clock = time.perf_counter) -> int:
    """How many steps take about so long, in eights, since penalties come every eighth; warms up on the way."""
    steps = repeated(step)
    steps(8)
    return 8 * max(1, round(seconds / seconds_of(lambda: steps(8), device, clock)))


def paired_rounds(
    loops: dict[str, Callable[[int], None]],
    count: int,
    rounds: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every loop in every round, by this clock; their order within a round is drawn."""
    order, chance = list(loops), random.Random(0)
    for name in order:
        loops[name](4)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            seconds[name].append(seconds_of(lambda name=name: loops[name](count), device, clock))  # type: ignore[misc]
    return seconds


class _Flops(TorchDispatchMode):
    """Sums what convolutions and matrix products cost; FlopCounterMode itself can't follow a gradient penalty."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def flops_of(step: Callable[[], None], steps: int = 8) -> float:
    """FLOP of a step in convolutions and matrix products, the mean of some: eight hold a penalty."""
    with _Flops() as counter:
        for _ in range(steps):
            step()
    return counter.total / steps


def matmul_rate(device: torch.device, clock: Clock = time.perf_counter) -> float:
    """FLOP/s of a large matrix product in the precision that hfgen chooses."""
    size = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if choose_kernels(device).precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=kind)
    return 2 * size**3 / min(seconds_of(lambda: a @ a, device, clock) for _ in range(8))  # type: ignore[arg-type]
