"""Fourier coefficients of images, through the window that all spectra of a diagnosis have."""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.metrics.spectrum import Window


def transform(values: Tensor, window: Window) -> Tensor:
    """Fourier coefficients (N, R, R) of images (N, R, R) without their means, on both halves of the plane."""
    centred = values - values.mean((1, 2), keepdim=True)
    if window == "hann":
        line = _hann(values.shape[-1]).to(values.dtype)
        centred = centred * line * line[:, None]
    return torch.fft.fft2(centred, norm="forward")


def frequencies(side: int) -> Tensor:
    """Those of the coefficients, in cycles/pixel, whatever their direction: (R, R)."""
    line = torch.fft.fftfreq(side, dtype=torch.float64)
    return torch.hypot(line[:, None], line)


def window_power(side: int, window: Window) -> float:
    """The share of white noise's power that passes the window."""
    return float(_hann(side).square().mean()) ** 2 if window == "hann" else 1.0


def _hann(side: int) -> Tensor:
    return torch.hann_window(side, periodic=True, dtype=torch.float64)
