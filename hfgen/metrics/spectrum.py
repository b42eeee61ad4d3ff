"""Where in frequency an image set has its power, and which part of the missing power is averaging.

Frequencies are in cycles per pixel. Powers are |F|^2 / (H W)^2 of the luma, so that those of an image's
non-DC bins sum to its variance (Parseval). Rings stop at the Nyquist frequency .5; the corners of the
spectrum, where checkerboards live, are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images

_BANDS = 16
_HIGH = 0.25
_SMALLEST = 16
_BATCH = 512
_REC_601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PowerSpectrum:
    """Mean power per bin, image by image, as float64.

    `frequencies` (B,): the mean frequency of each ring's bins, in (0, .5]. Rings are 1/32 wide: B is 16 from
    32 pixels on, less below, where rings without a bin are left out.
    `bands` (N, B): the rings. `corners` (N,): beyond .5. `high` (N,): beyond .25, corners included.
    """

    frequencies: Tensor
    bands: Tensor
    corners: Tensor
    high: Tensor


@dataclass(frozen=True)
class AveragingIdentity:
    """(S_real - S_reconstruction) / S_error; 1 where the missing power is averaging, 0 where it was put back.

    If the reconstruction is E[x | z], its error is orthogonal to it and the ratio is 1 at every frequency.
    `numerators`, `denominators` (N, B) and `high_numerators`, `high_denominators` (N,) are per image, for
    intervals: the ratio is the mean of one over the mean of the other.
    """

    frequencies: Tensor
    numerators: Tensor
    denominators: Tensor
    high_numerators: Tensor
    high_denominators: Tensor

    @property
    def bands(self) -> Tensor:
        """(B,): the ratio in each ring."""
        return self.numerators.mean(0) / self.denominators.mean(0)

    @property
    def high(self) -> float:
        """The ratio beyond .25 cycles per pixel."""
        return float(self.high_numerators.mean() / self.high_denominators.mean())


def luma(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> float64 (N, H, W) in [0, 1]; colour by Rec. 601.

    Raises:
        UserError: not an image set, or an empty one.
    """
    check_images(images, "images")
    if images.shape[1] == 1:
        return images[:, 0].double() / 255
    weights = torch.tensor(_REC_601, dtype=torch.float64, device=images.device)
    return torch.einsum("nchw,c->nhw", images.double(), weights) / 255


def power_spectrum(images: Tensor) -> PowerSpectrum:
    """The spectrum of each image's luma; uint8 (N, C, H, W), sides of at least 16.

    Raises:
        UserError: not an image set, an empty one, or too small.
    """
    check_images(images, "images")
    _check_size(images)
    return _join([_spectrum(luma(batch)) for batch in images.split(_BATCH)])


def high_frequency_ratio(images: PowerSpectrum, real: PowerSpectrum) -> float:
    """Mean power beyond .25 cycles per pixel over that of the real images: 1 = as sharp as real.

    Raises:
        UserError: the real images have no such power.
    """
    reference = float(real.high.mean())
    if reference == 0:
        raise UserError("real: the images have no power above .25 cycles/pixel; use images that aren't flat")
    return float(images.high.mean()) / reference


def averaging_identity(real: Tensor, reconstruction: Tensor) -> AveragingIdentity:
    """Compare uint8 (N, C, H, W) with their reconstructions, in the same order.

    Raises:
        UserError: as `power_spectrum`, shapes that differ, or reconstructions without any error.
    """
    check_images(real, "real")
    check_images(reconstruction, "reconstruction")
    _check_size(real)
    if real.shape != reconstruction.shape:
        shapes = f"{tuple(reconstruction.shape)} against {tuple(real.shape)} of real"
        raise UserError(f"reconstruction: shape {shapes}; give one per real image, at the same size")
    batches = zip(real.split(_BATCH), reconstruction.split(_BATCH), strict=True)
    lumas = ((luma(x), luma(y)) for x, y in batches)
    spectra = [(_spectrum(x), _spectrum(y), _spectrum(x - y)) for x, y in lumas]
    original, output, error = (_join(list(parts)) for parts in zip(*spectra, strict=True))
    if not (error.bands.sum(0) > 0).all() or not error.high.sum() > 0:
        raise UserError("reconstruction: no error at some frequencies, so no ratio; compare lossy ones")
    return AveragingIdentity(
        original.frequencies,
        original.bands - output.bands,
        error.bands,
        original.high - output.high,
        error.high,
    )


def _spectrum(values: Tensor) -> PowerSpectrum:
    count, height, width = values.shape
    power = torch.fft.fft2(values - values.mean((1, 2), keepdim=True), norm="forward").abs().square()
    frequencies, weights = _regions(height, width)
    means = power.reshape(count, -1) @ weights.to(values.device)
    return PowerSpectrum(frequencies, means[:, :-2], means[:, -2], means[:, -1])


def _regions(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The rings' mean frequencies (B,), and (H W, B + 2) weights that average over rings, corners, high."""
    fy, fx = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    radius = torch.hypot(fy[:, None], fx).reshape(-1)
    radius = radius.mul(2**40).round().div(2**40)  # 7 / 28 must not pass for more than .25
    ring = torch.ceil(radius * 2 * _BANDS)
    rings = torch.stack([ring == index for index in range(1, _BANDS + 1)], dim=1)
    rings = rings[:, rings.any(0)]
    regions = torch.cat([rings, (ring > _BANDS)[:, None], (radius > _HIGH)[:, None]], dim=1).double()
    weights = regions / regions.sum(0)
    return radius @ weights[:, :-2], weights


def _join(parts: list[PowerSpectrum]) -> PowerSpectrum:
    return PowerSpectrum(
        parts[0].frequencies,
        torch.cat([part.bands for part in parts]),
        torch.cat([part.corners for part in parts]),
        torch.cat([part.high for part in parts]),
    )


def _check_size(images: Tensor) -> None:
    if min(images.shape[-2:]) < _SMALLEST:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"images: {size} pixels are too few for a spectrum; use 16 x 16 or more")
