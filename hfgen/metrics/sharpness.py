"""How sharp an image is: several scores, because each of them fails on something.

Noise raises the variance of the Laplacian, contrast moves it and Tenengrad, and the blur effect hardly sees either.
Read all three relative to real images, in both directions, beside the spectrum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.placement import at_once, back, in_parts
from hfgen.metrics.spectrum import luma

_REBLUR = 11
_PIXELS = 2**17
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
    parts = [_sharpness(luma(part)) for (part,) in in_parts(at_once(images[:, 0], _PIXELS), images)]
    return {name: back(torch.cat([part[name] for part in parts])) for name in parts[0]}


def _sharpness(values: Tensor) -> dict[str, Tensor]:
    slopes, laplacian = (_slopes(values, False), _slopes(values, True)), _laplacian(values)
    return {
        "laplacian_variance": _mean((laplacian - _mean(laplacian)[:, None, None]).square_()),
        "tenengrad": _mean(slopes[0].square() + slopes[1].square()),
        "blur_effect": torch.maximum(_blur_effect(values, slopes[0], False), _blur_effect(values, slopes[1], True)),
    }


def _blur_effect(values: Tensor, slopes: Tensor, vertical: bool) -> Tensor:
    """The share of the slope along one axis that survives blurring along it, (N,)."""
    again = _slopes(_reblurred(values, 1 if vertical else 2), vertical)
    # The reference leaves out one more line at the top and at the left.
    sharp, blur = (part[:, 1:, 1:].abs().clamp_min_(_EPSILON) for part in (slopes, again))
    total = _mean(sharp)
    return _mean(torch.minimum(sharp, blur, out=blur)) / total


def _mean(values: Tensor) -> Tensor:
    """Of each image of (N, H, W), (N,): by rows first, in an order that neither its neighbours nor threads change."""
    return values.mean(2).mean(1)


def _reblurred(values: Tensor, axis: int) -> Tensor:
    """The mean of 11 pixels around each along an axis, mirrored at both ends, the end pixels twice."""
    size, reach = values.shape[axis], _REBLUR // 2
    ends = values.narrow(axis, 0, reach).flip(axis), values.narrow(axis, size - reach, reach).flip(axis)
    lines = torch.cat([ends[0], values, ends[1]], axis)

    def doubled(sums: Tensor, count: int) -> Tensor:
        length = sums.shape[axis] - count
        return sums.narrow(axis, 0, length) + sums.narrow(axis, count, length)

    # Of 2, 4 and 8 pixels: half the additions, and a tenth of avg_pool2d's time.
    two = doubled(lines, 1)
    eight = doubled(doubled(two, 2), 4).narrow(axis, 0, size)
    return eight.add_(two.narrow(axis, 8, size)).add_(lines.narrow(axis, 10, size)).div_(_REBLUR)


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
