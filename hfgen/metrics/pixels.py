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
from hfgen.metrics.placement import back, in_parts, moved

_WINDOW, _SIGMA = 11, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_MULTISCALE = _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)
_NUMBERS = 2**20
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
    height, width = images.shape[-2:]
    down = images[..., _mirrored(height).to(images.device), :]
    parts = [_weights(n).to(images.device).T @ down[..., at : at + n + _REACH, :] for at, n in _blocks(height)]
    across = torch.cat(parts, -2)[..., _mirrored(width).to(images.device)]
    return torch.cat(
        [across[..., at : at + n + _REACH] @ _weights(n).to(images.device) for at, n in _blocks(width)], -1
    )


def _blocks(size: int) -> list[tuple[int, int]]:
    """Beginnings and lengths of the blocks of a line."""
    return [(at, min(_BLOCK, size - at)) for at in range(0, size, _BLOCK)]


@lru_cache(maxsize=16)
def _mirrored(size: int) -> Tensor:
    """Which pixels stand in for those of a line and for as many on both sides as a window needs."""
    places = torch.arange(size + _REACH) - _REACH // 2
    return (size - 1) - ((size - 1) - places.abs()).abs()


@lru_cache(maxsize=16)
def _weights(block: int) -> Tensor:
    """(block + 10, block): a column's entries weight the pixels around its own."""
    steps = torch.arange(_WINDOW) - _REACH // 2
    weights = torch.exp(-(steps.double() ** 2) / (2 * _SIGMA**2))
    places = torch.arange(block) + torch.arange(_WINDOW)[:, None]
    window = torch.zeros(block + _REACH, block, dtype=torch.float64)
    return window.scatter_(0, places, (weights / weights.sum())[:, None].expand(-1, block))


def _in_batches(score: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A score per image, in float64; what it takes in memory doesn't grow with the set."""
    first, second = (images if images.ndim == 4 else images[None, None] for images in (x, y))
    batch = max(1, _NUMBERS // first[0].numel())
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
