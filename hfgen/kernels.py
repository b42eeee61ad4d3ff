"""How a training run computes on its device: number format, layout, torch.compile."""

from __future__ import annotations

import dataclasses
import time
from functools import cache
from importlib.util import find_spec

import torch

from hfgen.devices import describe, fit_threads

_TURNS, _SIDE = 8, 512


@dataclasses.dataclass(frozen=True)
class Kernels:
    """How a run computes on its device.

    Attributes:
        device: Where it computes.
        precision: bf16 (autocast over fp32 weights) or fp32.
        memory_format: Of images and convolutions.
        compiled: torch.compile's mode, or off.
    """

    device: torch.device
    precision: str
    memory_format: torch.memory_format
    compiled: str

    def __str__(self) -> str:
        layout = "channels_last" if self.memory_format == torch.channels_last else "contiguous"
        compiled = "no torch.compile" if self.compiled == "off" else f"torch.compile ({self.compiled})"
        precision = "bf16 autocast over fp32 weights" if self.precision == "bf16" else "fp32"
        return f"{describe(self.device)}: {precision}, {layout}, {compiled}, fused AdamW"


def choose_kernels(
    device: torch.device, precision: str = "auto", compiled: str = "auto", *, before: str | None = None
) -> Kernels:
    """What was asked, and for `auto` what pays on the device, or the precision that the run had on it `before`.

    channels_last pays, except for bf16 on a CPU, whose group normalisation is slow on it. torch.compile pays on a
    GPU, where it fuses what lies between the convolutions; on a CPU it takes most of a minute to gain a tenth.
    """
    if device.type == "cpu":
        fit_threads()
    if compiled == "auto":
        compiled = "default" if device.type == "cuda" and find_spec("triton") else "off"
    chosen = _choose_precision(precision, device, before)
    pays = device.type == "cuda" or (device.type == "cpu" and chosen == "fp32")
    return Kernels(device, chosen, torch.channels_last if pays else torch.contiguous_format, compiled)


def _choose_precision(asked: str, device: torch.device, before: str | None) -> str:
    """bf16 or fp32: what was asked, or for `auto` bf16 where the hardware multiplies faster in it.

    Where that is measured, a run that goes on keeps what it had: a second measurement can find otherwise.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type != "cpu" or not _cpu_has_bf16():
        return "fp32"
    return before if before in ("bf16", "fp32") else ("bf16" if _cpu_gains_by_bf16() else "fp32")


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX: without them a CPU emulates bf16, slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


@cache
def _cpu_gains_by_bf16() -> bool:
    """Whether a matrix product takes less processor time in bf16 than in fp32.

    An instruction set doesn't tell: of two CPUs with AVX512-BF16 and without AMX one takes .5 and the other 1.9 times
    as long. The fastest of several turns each; between .9 and 1, where a choice could change from run to run, is fp32.
    """
    fastest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(_TURNS):
        for dtype in fastest:
            factor = torch.ones(_SIDE, _SIDE, dtype=dtype)
            started = time.process_time()
            torch.mm(factor, factor)
            fastest[dtype] = min(fastest[dtype], time.process_time() - started)
    return fastest[torch.bfloat16] < 0.9 * fastest[torch.float32]
