"""Pixel fidelity of a reconstruction, one number per image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_finite

_SSIM_WINDOW = 11
_MS_SSIM_SIDE = 176
_NUMBERS = 2**20


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error: two (N, C, H, W) -> float64 (N,); two (H, W) -> float64 0-d.

    Raises:
        UserError: shapes that differ or are neither, an empty set, NaN or infinity.
    """
    x, y = _pair(x, y)
    squares = (x - y).square()
    return squares.mean() if x.ndim == 2 else squares.mean((1, 2, 3))


def psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB; shapes and errors as `mse`.

    `data_range` is the white level minus the black level (255 for uint8). Identical images give infinity,
    and so does the mean over a set that holds one.
    """
    _check_range(data_range)
    return 10 * torch.log10(data_range**2 / mse(x, y))


def capped_psnr(x: Tensor, y: Tensor) -> Tensor:
    """`psnr` of uint8 image sets, finite: an exact copy counts as if one value were one level off."""
    worst_exact = 10 * math.log10(255**2 * x[0].numel())
    return psnr(x, y, 255).clamp_max(worst_exact)


def ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Structural similarity in [-1, 1] (Wang 2004: 11 x 11 Gaussian window, sigma 1.5); shapes as `mse`.

    The mean over every pixel, borders mirrored, as in torchmetrics; scikit-image leaves the borders out.

    Raises:
        UserError: as `mse`, or a side under 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check_range(data_range)
    x, y = _pair(x, y)
    if min(x.shape[-2:]) < _SSIM_WINDOW:
        size = f"{x.shape[-2]} x {x.shape[-1]}"
        raise UserError(f"ssim: images of {size} are below its 11 x 11 window; use larger ones or mse")
    return _in_batches(structural_similarity_index_measure, x, y, data_range)


def ms_ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Structural similarity over five scales, in [0, 1] (Wang 2003, its weights); shapes as `mse`.

    Scales whose mean is negative count as 0, as in torchmetrics.

    Raises:
        UserError: as `mse`, or a side under 176 pixels, which the window exceeds at the fifth scale.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    _check_range(data_range)
    x, y = _pair(x, y)
    if min(x.shape[-2:]) < _MS_SSIM_SIDE:
        size = f"{x.shape[-2]} x {x.shape[-1]}"
        raise UserError(f"ms_ssim: images of {size} are too small for five scales; use 176 x 176 or more, or ssim")
    return _in_batches(multiscale_structural_similarity_index_measure, x, y, data_range)


def _in_batches(score: Callable[..., Tensor], x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """A score of torchmetrics, per image; memory doesn't grow with the set."""
    first, second = (images if images.ndim == 4 else images[None, None] for images in (x, y))
    batch = max(1, _NUMBERS // first[0].numel())
    scores = [
        score(a, b, data_range=float(data_range), reduction="none").reshape(-1)
        for a, b in zip(first.split(batch), second.split(batch), strict=True)
    ]
    return torch.cat(scores) if x.ndim == 4 else scores[0].squeeze(0)


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape:
        raise UserError(f"y: shape {tuple(y.shape)} against {tuple(x.shape)} of x; give pairs of one size")
    if x.ndim not in (2, 4) or x.numel() == 0:
        raise UserError(f"x: shape {tuple(x.shape)}; give a non-empty (N, C, H, W) or one (H, W)")
    check_finite(x, "x")
    check_finite(y, "y")
    return x.double(), y.double()


def _check_range(data_range: float) -> None:
    if not 0 < data_range < float("inf"):
        raise UserError(f"data_range: {data_range} is not a positive number; use 255 for uint8 images")
