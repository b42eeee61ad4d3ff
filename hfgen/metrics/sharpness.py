"""How sharp an image is: several scores, because each of them fails on something.

Noise raises the variance of the Laplacian, contrast moves it and Tenengrad, and the blur effect hardly sees either.
Read all three relative to real images, in both directions, beside the spectrum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.placement import back, in_parts
from hfgen.metrics.spectrum import luma

_REBLUR = 11
_PIXELS = 2**20
_EPSILON = torch.finfo(torch.float64).eps


def sharpness(images: Tensor) -> dict[str, Tensor]:
    """Sharpness of each image's luma in [0, 1]; uint8 (N, C, H, W), sides of at least 11 -> float64 (N,) by name.

    `laplacian_variance` (Pech-Pacheco 2000) and `tenengrad`, the mean squared slope (Krotkov 1988): at least 0, higher
    is sharper, 0 for one colour. Their pixels are those whose neighbours all lie in the image.
    `blur_effect` (Crete 2007, as in scikit-image): in [0, 1], higher is more blurred, 1 for one colour.

    Raises:
        UserError: not an image set, an empty one, or too small.
    """
    check_images(images, "images")
    if min(images.shape[-2:]) < _REBLUR:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"images: {size} pixels are below the blur effect's {_REBLUR}; use larger ones")
    batch = max(1, _PIXELS // images[0, 0].numel())
    parts = [_sharpness(luma(part)) for (part,) in in_parts(batch, images)]
    return {name: back(torch.cat([part[name] for part in parts])) for name in parts[0]}


def _sharpness(values: Tensor) -> dict[str, Tensor]:
    slopes = _slopes(values, False), _slopes(values, True)
    return {
        "laplacian_variance": _laplacian(values).var((1, 2), correction=0),
        "tenengrad": (slopes[0].square() + slopes[1].square()).mean((1, 2)),
        "blur_effect": torch.maximum(_blur_effect(values, slopes[0], False), _blur_effect(values, slopes[1], True)),
    }


def _blur_effect(values: Tensor, slopes: Tensor, vertical: bool) -> Tensor:
    """The share of the slope along one axis that survives blurring along it, (N,)."""
    lines = values.transpose(1, 2) if vertical else values
    blurred = avg_pool2d(lines[:, :, _mirrored(lines.shape[2])], (1, _REBLUR), stride=1)
    again = _slopes(blurred.transpose(1, 2) if vertical else blurred, vertical)
    # The reference leaves out one more line at the top and at the left.
    sharp, blur = (part[:, 1:, 1:].abs().clamp_min(_EPSILON) for part in (slopes, again))
    total = sharp.sum((1, 2))
    return (total - (sharp - blur).clamp_min(0).sum((1, 2))).abs() / total


def _mirrored(size: int) -> Tensor:
    """Indices of a line with half a filter's length mirrored at both ends, the end pixels twice."""
    reach = _REBLUR // 2
    return torch.cat([torch.arange(reach).flip(0), torch.arange(size), torch.arange(size - reach, size).flip(0)])


def _slopes(values: Tensor, vertical: bool) -> Tensor:
    """Slope per pixel of (N, H, W) along one axis, averaged over three lines; scikit-image's normalisation."""
    lines = values.transpose(1, 2) if vertical else values
    smooth = (lines[:, :-2] + 2 * lines[:, 1:-1] + lines[:, 2:]) / 8
    slopes = smooth[:, :, 2:] - smooth[:, :, :-2]
    return slopes.transpose(1, 2) if vertical else slopes


def _laplacian(values: Tensor) -> Tensor:
    rows, columns = values[:, 1:-1], values[:, :, 1:-1]
    # In pairs, which rounds nothing on one colour.
    around = (columns[:, :-2] + columns[:, 2:]) + (rows[:, :, :-2] + rows[:, :, 2:])
    return around - 4 * values[:, 1:-1, 1:-1]
