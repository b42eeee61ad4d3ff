"""Is DATA itself blurred, upscaled or compressed?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.metrics import luma, power_spectrum

# Deviation in pixels of the Gaussian that a camera's or a renderer's pixel area amounts to: images are taken for
# sharp up to `_SHARP`, and held against images of `_PIXEL`.
_PIXEL, _SHARP = 0.4, 0.62
_EMPTY = 1e-3
_BLOCK = 8
_STRENGTH = 1.25


class DataQuality(NamedTuple):
    """What the spectrum of real images says.

    `blur`: deviation of the Gaussian, in pixels, whose blur explains the fall of the spectrum beyond a power law.
    `blurred`: whether it is more than pixels cause.
    `kept`: the power above .25 cycles/pixel over that of images as sharp as pixels allow; 1 where not blurred.
    `cutoff`: the frequency from which on there is next to no power, in cycles/pixel; .5 where there is always some.
    `repeated`: share of neighbouring pixels along the rows that are equal in pairs, beyond what chance would have.
    `jpeg`: difference of neighbours across the borders of 8 x 8 blocks over that within; above 1.25 they show.
    """

    blur: float
    blurred: bool
    kept: float
    cutoff: float
    repeated: bool
    jpeg: float


def data_quality(images: Tensor) -> DataQuality:
    """Look at uint8 images (N, C, H, W), sides of at least 16.

    Natural images have power f^-a (Field, 1987; a near 2), and a Gaussian of s pixels multiplies it by
    exp(-4 pi^2 s^2 f^2): s^2 is the slope of the log spectrum in f^2 beside that in log f, by least squares over the
    rings.

    Raises:
        UserError: not an image set, or too small.
    """
    spectrum = power_spectrum(images)
    frequencies, power = spectrum.frequencies, spectrum.bands.mean(0)
    total = float(power.sum())
    if total <= 0:
        return DataQuality(0.0, False, 1.0, 0.5, False, 1.0)
    blur = _blur(frequencies, power.clamp_min(1e-12 * total))
    repeated = _repeated(images)
    blurred = blur > _SHARP
    high = frequencies > 0.25
    gained = torch.exp(4 * torch.pi**2 * (blur**2 - _PIXEL**2) * frequencies[high].square())
    kept = float(power[high].sum() / (power[high] * gained).sum()) if blurred else 1.0
    return DataQuality(blur, blurred or repeated, min(kept, 1.0), _cutoff(frequencies, power), repeated, _grid(images))


def _blur(frequencies: Tensor, power: Tensor) -> float:
    columns = [torch.ones_like(frequencies), -frequencies.log(), -4 * torch.pi**2 * frequencies.square()]
    # An exponent below that of white noise or above that of smooth surfaces would be the blur's own work.
    design, logs = torch.stack(columns, 1), power.log()
    best = (float("inf"), 0.0)
    for exponent in torch.linspace(1.0, 3.0, 21, dtype=torch.float64):
        rest = logs - exponent * design[:, 1]
        solution = torch.linalg.lstsq(design[:, [0, 2]], rest[:, None]).solution[:, 0]
        error = float((design[:, [0, 2]] @ solution - rest).square().sum())
        best = min(best, (error, float(solution[1])))
    return max(best[1], 0.0) ** 0.5


def _cutoff(frequencies: Tensor, power: Tensor) -> float:
    """Where the power falls for good below a thousandth of what f^-2 from the lowest ring on would be."""
    expected = power[0] * (frequencies[0] / frequencies).square()
    there = (power > _EMPTY * expected).nonzero()
    return min(float(frequencies[int(there.max())]), 0.5)


def _repeated(images: Tensor) -> bool:
    """Whether pixels come in equal pairs, as nearest-neighbour upscaling leaves them: pairs at one of two offsets."""
    values = images[:, 0].short()
    equal = (values[..., 1:] == values[..., :-1]).double()
    even, odd = float(equal[..., 0::2].mean()), float(equal[..., 1::2].mean())
    return abs(even - odd) > 0.5 * (1 - min(even, odd)) and max(even, odd) > 0.95


def _grid(images: Tensor) -> float:
    values = luma(images)
    steps = (values[..., 1:] - values[..., :-1]).abs().mean((0, 1))
    border = torch.arange(1, values.shape[-1]) % _BLOCK == 0
    within = float(steps[~border].mean())
    return float(steps[border].mean()) / within if border.any() and within > 0 else 1.0


def compressed(quality: DataQuality) -> bool:
    """Whether the borders of JPEG's blocks show."""
    return quality.jpeg > _STRENGTH
