"""Pixel fidelity of a reconstruction, one number per image."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen.errors import UserError
from hfgen.metrics.checks import check_finite
from hfgen.metrics.placement import at_once, back, in_parts, moved

_WINDOW, _SIGMA = 11, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_MULTISCALE = _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)
_NUMBERS = 2**18
_BLOCK, _REACH = 32, _WINDOW - 1


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error: two (N, C, H, W) -> float64 (N,); two (H, W) -> float64 0-d.

    Raises:
        UserError: shapes that differ or are neither, an empty set, NaN or infinity.
    """
    _check_pair(x, y)
    return _in_batches(lambda a, b: (a - b).square().mean((1, 2, 3)), x, y)


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
    _check_range(data_range)
    _check_pair(x, y)
    _check_side(x, "ssim", _WINDOW, "mse")
    return _in_batches(lambda a, b: _similarity(a, b, data_range)[0], x, y)


def ms_ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Structural similarity over five scales, in [0, 1] (Wang 2003, its weights); shapes as `mse`.

    As in torchmetrics: a scale whose contrast term is negative counts as 0, and that term leaves the borders out.

    Raises:
        UserError: as `mse`, or a side under 176 pixels, where the fifth scale is smaller than the window.
    """
    _check_range(data_range)
    _check_pair(x, y)
    _check_side(x, "ms_ssim", _SMALLEST_MULTISCALE, "ssim")
    return _in_batches(lambda a, b: _multiscale_similarity(a, b, data_range)[1], x, y)


def similarities(x: Tensor, y: Tensor, data_range: float) -> dict[str, Tensor]:
    """`ssim` and `ms_ssim` by name, of which one is a part of the other; errors as `ms_ssim`."""
    _check_range(data_range)
    _check_pair(x, y)
    _check_side(x, "ms_ssim", _SMALLEST_MULTISCALE, "ssim")
    both = _in_batches(lambda a, b: torch.stack(_multiscale_similarity(a, b, data_range), 1), x, y)
    return {"ssim": both[..., 0], "ms_ssim": both[..., 1]}


def _multiscale_similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """The similarity of the first scale, and the product over all: (N,) each."""
    scales = []
    product = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        similarity, contrast = _similarity(x, y, data_range)
        scales.append(similarity)
        last = scale == len(_SCALE_WEIGHTS) - 1
        product = product * (similarity if last else contrast).clamp_min(0).pow(weight)
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    return scales[0], product


def _similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Mean similarity, and mean contrast term without the borders, of (N, C, H, W): (N,) each (Wang 2004, III.B).

    torchmetrics gives the same to rounding, but its two-dimensional convolution takes 25 times as long.
    """
    small, smaller = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    squares, product = mean_x.square() + mean_y.square(), mean_x * mean_y
    variances = (_blur(x.square() + y.square()) - squares).clamp_min(0)
    contrast = (2 * (_blur(x * y) - product) + smaller) / (variances + smaller)
    brightness = (2 * product + small) / (squares + small)
    reach = _REACH // 2
    inner = contrast[:, :, reach:-reach, reach:-reach]
    return (brightness * contrast).mean((1, 2, 3)), inner.mean((1, 2, 3))


def _blur(images: Tensor) -> Tensor:
    """The window's weighted mean around every pixel of (N, C, H, W), borders mirrored.

    In products of blocks, since most of a line is beyond a window.
    """
    down, across = (_blocks(size, images.device) for size in images.shape[-2:])
    lines = torch.cat([weights.T @ images[..., pixels, :] for pixels, weights in down], -2)
    return torch.cat([lines[..., pixels] @ weights for pixels, weights in across], -1)


@lru_cache(maxsize=32)
def _blocks(size: int, device: torch.device) -> list[tuple[slice, Tensor]]:
    """Which pixels of a line the windows of 32 others see, block by block, and their weights (pixels, 32 or less)."""
    steps = torch.arange(_WINDOW) - _REACH // 2
    window = torch.exp(-(steps.double() ** 2) / (2 * _SIGMA**2))
    places = torch.arange(size)[:, None] + steps
    mirrored = (size - 1) - ((size - 1) - places.abs()).abs()
    weights = torch.zeros(size, size, dtype=torch.float64)
    weights.scatter_add_(1, mirrored, (window / window.sum()).expand(size, -1))
    blocks = []
    for first in range(0, size, _BLOCK):
        seen = slice(max(0, first - _REACH // 2), min(size, first + _BLOCK + _REACH // 2))
        blocks.append((seen, weights[first : first + _BLOCK, seen].T.contiguous().to(device)))
    return blocks


def _in_batches(score: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A score per image, in float64; what it takes in memory doesn't grow with the set."""
    first, second = (images if images.ndim == 4 else images[None, None] for images in (x, y))
    batch = at_once(first, _NUMBERS)
    pairs = in_parts(batch, first, second)
    scores = torch.cat([back(score(moved(a).double(), moved(b).double())) for a, b in pairs])
    return scores if x.ndim == 4 else scores.squeeze(0)


def _check_side(images: Tensor, name: str, least: int, instead: str) -> None:
    if min(images.shape[-2:]) < least:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"{name}: images of {size} are too small; use {least} x {least} or more, or {instead}")


def _check_pair(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise UserError(f"y: shape {tuple(y.shape)} against {tuple(x.shape)} of x; give pairs of one size")
    if x.ndim not in (2, 4) or x.numel() == 0:
        raise UserError(f"x: shape {tuple(x.shape)}; give a non-empty (N, C, H, W) or one (H, W)")
    check_finite(x, "x")
    check_finite(y, "y")


def _check_range(data_range: float) -> None:
    if not 0 < data_range < float("inf"):
        raise UserError(f"data_range: {data_range} is not a positive number; use 255 for uint8 images")
