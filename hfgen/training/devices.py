"""What a device computes best in."""

from __future__ import annotations

import torch


def choose_precision(asked: str, device: torch.device) -> str:
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


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last on a GPU; on a CPU group normalisation is faster on contiguous images."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format
