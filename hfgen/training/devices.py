"""What a device computes best in, and what it can hold."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import torch


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


def choose_kernels(device: torch.device, precision: str = "auto", compiled: str = "auto") -> Kernels:
    """What was asked, and for `auto` what pays on the device.

    channels_last pays, but for bf16 on a CPU, whose group normalisation is slow on it. torch.compile pays on a
    GPU, where it fuses what lies between the convolutions; on a CPU it takes most of a minute to gain a tenth.
    """
    if compiled == "auto":
        compiled = "default" if device.type == "cuda" and find_spec("triton") else "off"
    chosen = _choose_precision(precision, device)
    pays = device.type == "cuda" or (device.type == "cpu" and chosen == "fp32")
    return Kernels(device, chosen, torch.channels_last if pays else torch.contiguous_format, compiled)


def _choose_precision(asked: str, device: torch.device) -> str:
    """bf16 or fp32: what was asked, or for `auto` bf16 where the hardware multiplies in it."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX: without them a CPU emulates bf16, slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB"
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
