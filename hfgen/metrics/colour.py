"""Colour of reconstructions: how far it is off, which way, and what was clipped; one number per image.

Lab is CIELAB under D65 of sRGB pixels, by scikit-image, as is CIEDE2000 (Sharma et al. 2005).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.placement import in_parts

_MOST_PIXELS = 4096
_BATCH = 64
_PIXELS_AT_ONCE = 2**16
_AXES = ("l", "a", "b")


def colour_errors(real: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """Of pairs of uint8 RGB images (N, 3, H, W), in one order: float64 (N,) by name.

    `ciede2000`, `ciede2000_p95`: the mean and the 95th percentile over an image's pixels of the colour difference;
    at least 0, about 1 is just noticeable. `bias_l`, `bias_a`, `bias_b`: the mean of reconstruction - real in Lab:
    lighter, redder (else greener), yellower (else bluer). `chroma_real`, `chroma_reconstruction`: the mean distance
    from grey, whose ratio is the saturation. Of images above 4096 pixels a grid of at most so many is looked at.

    Raises:
        UserError: not two sets of colour images of one shape, or empty ones.
    """
    _check_pairs(real, reconstruction)
    step = _step(*real.shape[2:])
    at_once = _PIXELS_AT_ONCE // real[0, 0, ::step, ::step].numel()
    count, parts = torch.get_num_threads(), list[dict[str, Tensor]]()
    # NumPy leaves the interpreter to others meanwhile; torch has threads of its own.
    with ThreadPoolExecutor(count) as threads:
        each = threads.map if count > 1 else map
        for pairs in in_parts(at_once * count, real, reconstruction):
            tasks = (part.cpu().split(at_once) for part in pairs)
            parts += map(_of_batch, each(partial(_in_lab, step), *tasks))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def clipped(real: Tensor, reconstruction: Tensor) -> Tensor:
    """The share of values at black or white in the reconstruction and not in the original, of uint8 pairs; (N,).

    Raises:
        UserError: not two image sets of one shape, or empty ones.
    """
    _check_shapes(real, reconstruction)
    shares = []
    for x, r in in_parts(_BATCH, real, reconstruction):
        at_end = [(images == 0) | (images == 255) for images in (x, r)]
        shares.append((at_end[1] & ~at_end[0]).double().mean((1, 2, 3)))
    return torch.cat(shares)


def _of_batch(compared: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    x, r, differences = compared
    bias = (r - x).mean(1)
    return {
        "ciede2000": differences.mean(1),
        "ciede2000_p95": _quantile(differences, 0.95),
        **{f"bias_{axis}": bias[:, index] for index, axis in enumerate(_AXES)},
        "chroma_real": x[..., 1:].norm(dim=-1).mean(1),
        "chroma_reconstruction": r[..., 1:].norm(dim=-1).mean(1),
    }


def _quantile(values: Tensor, share: float) -> Tensor:
    """`values.quantile(share, dim=1)` for shares near 1, by the largest values alone instead of by sorting all."""
    rank = share * (values.shape[1] - 1)
    largest = values.topk(values.shape[1] - int(rank), dim=1).values
    return torch.lerp(largest[:, -1], largest[:, -2:][:, 0], rank - int(rank))


def _in_lab(step: int, real: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 pairs (N, 3, H, W) -> both in Lab (N, P, 3), and their colour differences (N, P); float64."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    x, r = (rgb2lab(_pixels(images.numpy(), step)) for images in (real, reconstruction))
    return torch.from_numpy(x), torch.from_numpy(r), torch.from_numpy(deltaE_ciede2000(x, r))


def _pixels(images: np.ndarray, step: int) -> np.ndarray:
    """uint8 (N, 3, H, W) -> float64 (N, P, 3) in [0, 1], of every `step`-th row and column."""
    chosen = images[:, :, step // 2 :: step, step // 2 :: step]
    return np.ascontiguousarray(chosen.reshape(*chosen.shape[:2], -1).transpose(0, 2, 1)) / 255


def _step(height: int, width: int) -> int:
    """The distance of the pixels that are looked at; odd, so that both phases of a checkerboard are seen."""
    step = 1
    while -(-height // step) * -(-width // step) > _MOST_PIXELS:
        step += 2
    return step


def _check_pairs(real: Tensor, reconstruction: Tensor) -> None:
    _check_shapes(real, reconstruction)
    if real.shape[1] != 3:
        raise UserError(f"real: {real.shape[1]} channel is grey, which has no colour; give RGB images")


def _check_shapes(real: Tensor, reconstruction: Tensor) -> None:
    check_images(real, "real")
    check_images(reconstruction, "reconstruction")
    if real.shape != reconstruction.shape:
        shapes = f"{tuple(reconstruction.shape)} against {tuple(real.shape)} of real"
        raise UserError(f"reconstruction: shape {shapes}; give one per real image, at the same size")
