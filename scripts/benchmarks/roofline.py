"""What bounds a training step on one core: its kernels by kind, beside the rates of a matrix product and of the memory.

All by the CPU time of one thread, so that other processes hardly count. A kernel moves at least the bytes of its
inputs and outputs, which the caches may hold. What Python and autograd do between kernels isn't counted.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.bare import LOSSES, BareLoop
from hfgen.configs import load_config
from hfgen.data import draw
from hfgen.images import to_float
from hfgen.kernels import choose_kernels

_CPU = torch.device("cpu")
_KINDS = {
    "convolutions, forward": ("convolution",),
    "convolutions, backward": ("convolution_backward",),
    "matrix products": ("mm", "addmm", "bmm", "linear"),
    "normalisation": ("native_group_norm", "native_group_norm_backward", "native_layer_norm"),
    "activations": ("silu", "silu_backward", "silu_", "leaky_relu", "leaky_relu_backward"),
    "casts and copies": ("_to_copy", "copy_", "clone"),
}
_UPDATE, _REST = "update", "other kernels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--families", nargs="+", choices=sorted(LOSSES), default=["vae", "gan"], help="(vae gan)")
    parser.add_argument("--resolution", type=int, default=32, help="(%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=16, help="a multiple of 8, after which a penalty returns (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table a family."""
    torch.set_num_threads(1)
    precision = choose_kernels(_CPU).precision
    matmul, memory = matmul_flops(precision), memory_bytes()
    print(f"torch {torch.__version__}, {precision}, one thread: {matmul / 1e9:.0f} GFLOP/s in a matrix product of")
    print(f"2048 x 2048, {memory / 1e9:.1f} GB/s in a copy of 256 MB")
    for family in arguments.families:
        rows = kernels(family, arguments.resolution, arguments.steps)
        total = sum(row[0] for row in rows.values())
        print(
            f"\n| {family}, {arguments.resolution} px: {1e3 * total:.0f} ms | time | of matmul rate | of memory rate |"
        )
        print("|---|---|---|---|")
        for name, (seconds, flops, moved) in sorted(rows.items(), key=lambda row: -row[1][0]):
            rates = [
                f"{done / seconds / rate:.0%}" if done else "-" for done, rate in ((flops, matmul), (moved, memory))
            ]
            print(f"| {name} | {seconds / total:.0%} | {' | '.join(rates)} |")
    return 0


def kernels(family: str, resolution: int, steps: int) -> dict[str, tuple[float, float, float]]:
    """(seconds of CPU, FLOP, bytes) of a step by kind of kernel; a bare loop, the mean of some steps."""
    config = load_config(f"{family}-glyphs", [f"--resolution={resolution}"])
    own = choose_kernels(_CPU)
    loop = BareLoop(
        config, to_float(draw("glyphs", "train", 0, 512, resolution).images), own.precision, own.memory_format
    )
    for _ in range(4):
        loop.step()
    with _Kernels() as seen:
        for _ in range(steps):
            loop.step()
    return {name: (row[0] / steps, row[1] / steps, row[2] / steps) for name, row in seen.rows.items()}


class _Kernels(TorchDispatchMode):
    """Sums the CPU time, FLOP and bytes of what torch runs, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.thread_time()
        result = func(*args, **(kwargs or {}))
        seconds = time.thread_time() - started
        row = self.rows[_kind(func.__name__.partition(".")[0])]
        count = flop_registry.get(func._overloadpacket)
        row[0] += seconds
        row[1] += count(*args, **(kwargs or {}), out_val=result) if count is not None else 0
        row[2] += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


def _kind(name: str) -> str:
    if name.startswith(("_foreach", "_fused")):
        return _UPDATE
    return next((kind for kind, names in _KINDS.items() if name in names), _REST)


def matmul_flops(precision: str) -> float:
    """FLOP a second of CPU time in a large matrix product."""
    a = torch.randn(2048, 2048).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    return 2 * 2048**3 / min(_seconds(lambda: a @ a) for _ in range(5))


def memory_bytes() -> float:
    """Bytes read and written a second of CPU time, by a copy larger than the caches."""
    a, b = torch.ones(2**26), torch.empty(2**26)
    return 2 * a.nbytes / min(_seconds(lambda: b.copy_(a)) for _ in range(5))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.thread_time()
    call()
    return time.thread_time() - started
