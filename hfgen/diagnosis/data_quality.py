"""Is DATA itself blurred, upscaled or compressed?"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics import luma

# Deviation in pixels of the Gaussian that a camera's or a renderer's pixel area amounts to: images are taken for
# sharp up to `_SHARP`, and compared with images of `_PIXEL`.
_PIXEL, _SHARP = 0.4, 0.64
_EXPONENTS = (1.0, 3.0, 21)
_ROUNDING = 1 / (12 * 255**2)
_ABOVE_ROUNDING = 3.0
_SMALLEST, _MOST_RINGS, _HIGH = 16, 16, 0.25
_EMPTY = 1e-2
_BLOCK, _FEWEST_BLOCKS, _BLOCKS_SHOW = 8, 4, 1.6


class DataQuality(NamedTuple):
    """What the spectrum of real images says.

    `blur`: deviation of the Gaussian, in pixels, whose blur explains the fall of the spectrum beyond a power law.
    `blurred`: whether it is more than pixels cause, or pixels come in equal pairs.
    `kept`: the power above .25 cycles/pixel over that of images as sharp as pixels allow; 1 where not blurred.
    `cutoff`: the frequency beyond which there is next to no power, in cycles/pixel; .5 where there is always some.
    `repeated`: whether pixels come in equal pairs, as nearest-neighbour upscaling leaves them.
    `jpeg`: difference of neighbours across the borders of 8 x 8 blocks over that within; above 1.6 they show.
        1 below 32 pixels, which have too few of them.
    """

    blur: float
    blurred: bool
    kept: float
    cutoff: float
    repeated: bool
    jpeg: float


def data_quality(images: Tensor) -> DataQuality:
    """Look at uint8 images (N, C, R, R), R at least 16.

    Natural images have power f^-a (Field, 1987; a near 2), and a Gaussian of s pixels multiplies it by
    exp(-4 pi^2 s^2 f^2): s^2 is the slope of the log spectrum in f^2 beside that in log f, by least squares over the
    rings whose power is above that of rounding to 256 levels.

    Raises:
        UserError: not an image set, or too small.
    """
    values = luma(images)
    if min(values.shape[-2:]) < _SMALLEST:
        raise UserError(f"images: {values.shape[-1]} pixels are too few for a spectrum; use 16 x 16 or more")
    frequencies, power, rounding = _windowed_spectrum(values)
    repeated, grid = _repeated(images), _grid(values)
    clear = power > _ABOVE_ROUNDING * rounding
    if int(clear.sum()) < 4:
        return DataQuality(0.0, repeated, 1.0, 0.5, repeated, grid)
    height, exponent, blur = _fit(frequencies[clear], power[clear])
    expected = height * frequencies.pow(-exponent) * torch.exp(-4 * math.pi**2 * _PIXEL**2 * frequencies.square())
    high, blurred = frequencies > _HIGH, blur > _SHARP
    weighted = frequencies[high]  # a ring has bins in proportion to its radius
    kept = float((weighted * power[high]).sum() / (weighted * expected[high]).sum()) if blurred else 1.0
    there = (power > _EMPTY * expected).nonzero()
    cutoff = float(frequencies[int(there.max())]) if not bool(power[-1] > _EMPTY * expected[-1]) else 0.5
    if repeated:
        # Every second pixel was made up: nothing above .25 is real.
        kept = min(kept, _EMPTY)
    # Sums over pixels follow how memory lies; a billionth of a pixel does not matter.
    return DataQuality(round(blur, 9), blurred or repeated, min(max(round(kept, 9), 0.0), 1.0), cutoff, repeated, grid)


def compressed(quality: DataQuality) -> bool:
    """Whether the borders of JPEG's blocks show."""
    return quality.jpeg > _BLOCKS_SHOW


def _windowed_spectrum(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Frequencies (B,) of rings, their mean power (B,) without that of rounding, and the latter.

    Through Hann windows: else the jump between opposite borders, which no blur reaches, fills the high frequencies.
    """
    height, width = values.shape[-2:]
    one, other = (torch.hann_window(size + 1, periodic=False, dtype=torch.float64)[:size] for size in (height, width))
    window = (one[:, None] * other).to(values.device)
    centred = values - values.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(centred * window, norm="forward").abs().square().mean(0).cpu().reshape(-1)
    fy, fx = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    radius = torch.hypot(fy[:, None], fx).reshape(-1)
    rings = min(_MOST_RINGS, min(height, width) // 2)
    # The window spreads the mean and the lowest frequencies over two bins.
    ring = (radius * 2 * rings).ceil().clamp_max(rings + 1).long()
    ring[radius < 2.5 / min(height, width)] = 0
    counts = torch.bincount(ring, minlength=rings + 2)[1 : rings + 1].double()
    sums = [torch.bincount(ring, v, minlength=rings + 2)[1 : rings + 1] for v in (radius, power)]
    used = counts > 0
    rounding = _ROUNDING * float(window.square().mean()) / (height * width)
    frequencies, means = (total[used] / counts[used] for total in sums)
    return frequencies, (means - rounding).clamp_min(0), rounding


def _fit(frequencies: Tensor, power: Tensor) -> tuple[float, float, float]:
    """Height, exponent and blur of height f^-exponent exp(-4 pi^2 blur^2 f^2), by least squares of the logarithms.

    The exponent stays between that of fine textures and that of smooth surfaces: beyond is the blur's own work.
    """
    design = torch.stack([torch.ones_like(frequencies), -4 * math.pi**2 * frequencies.square()], 1)
    best = (math.inf, 0.0, 0.0, 0.0)
    for exponent in torch.linspace(*_EXPONENTS, dtype=torch.float64).tolist():
        wanted = power.log() + exponent * frequencies.log()
        solution = torch.linalg.lstsq(design, wanted[:, None]).solution[:, 0]
        error = float((design @ solution - wanted).square().sum())
        best = min(best, (error, math.exp(float(solution[0])), exponent, max(float(solution[1]), 0.0) ** 0.5))
    return best[1:]


def _repeated(images: Tensor) -> bool:
    """Whether pixels come in equal pairs, in all rows from the same place on."""
    values = images[:, 0].short()
    equal = (values[..., 1:] == values[..., :-1]).double()
    even, odd = float(equal[..., 0::2].mean()), float(equal[..., 1::2].mean())
    return max(even, odd) > 0.98 and min(even, odd) < 0.95


def _grid(values: Tensor) -> float:
    if values.shape[-1] < _FEWEST_BLOCKS * _BLOCK:
        return 1.0  # two blocks' one border lies where centred objects do
    steps = (values[..., 1:] - values[..., :-1]).abs().mean((0, 1))
    border = torch.arange(1, values.shape[-1]) % _BLOCK == 0
    within = float(steps[~border].mean())
    return float(steps[border].mean()) / within if border.any() and within > 0 else 1.0
