"""Where in frequency an image set has its power, and which part of the missing power is averaging.

Frequencies are in cycles per pixel. Powers are |F|^2 / (H W)^2 of the luma, so that those of an image's
non-DC bins sum to its variance (Parseval). Rings stop at the Nyquist frequency .5; the corners of the
spectrum, where checkerboards live, are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.intervals import Estimate, bootstrap_ratio, normal_estimate
from hfgen.metrics.placement import back, moved

_BANDS = 16
_MIDDLE, _HIGH = 0.125, 0.25
SMALLEST = 16
_PIXELS = 2**20
_REC_601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PowerSpectrum:
    """Mean power per bin, image by image, as float64.

    `frequencies` (B,): the mean frequency of each ring's bins, in (0, .5]. Rings are 1/32 wide: B is 16 from
    32 pixels on, less below, where rings without a bin are left out.
    `bands` (N, B): the rings. `corners` (N,): beyond .5. `corner_bands` (N, K): the same in rings as wide, of which
    the last of a square image holds the finest checkerboard alone, or nearly.
    `low`, `middle`, `high` (N,): up to .125, up to .25, and beyond .25, corners included.
    """

    frequencies: Tensor
    bands: Tensor
    corners: Tensor
    corner_bands: Tensor
    low: Tensor
    middle: Tensor
    high: Tensor


@dataclass(frozen=True)
class AveragingIdentity:
    """(S_real - S_reconstruction) / S_error; 1 where the missing power is averaging, 0 where it was put back.

    If the reconstruction is E[x | z], its error is orthogonal to it and the ratio is 1 at every frequency.
    `missing` and `error` are per image, for intervals: the ratio is the mean of one over the mean of the other.
    """

    missing: PowerSpectrum
    error: PowerSpectrum

    @property
    def frequencies(self) -> Tensor:
        """(B,): those of the rings."""
        return self.error.frequencies

    @property
    def bands(self) -> Tensor:
        """(B,): the ratio in each ring."""
        return self.missing.bands.mean(0) / self.error.bands.mean(0)

    @property
    def high(self) -> float:
        """The ratio beyond .25 cycles per pixel."""
        return float(self.missing.high.mean() / self.error.high.mean())

    def estimates(self, *, seed: int) -> dict[str, Estimate]:
        """The ratio with its interval in the bands `low`, `middle` and `high` of `PowerSpectrum`.

        Raises:
            UserError: fewer than two images, or an error that is 0 in a band for nearly all.
        """
        return {
            name: bootstrap_ratio(getattr(self.missing, name), getattr(self.error, name), seed=seed, paired=True)
            for name in ("low", "middle", "high")
        }

    def ring_estimates(self, *, seed: int) -> list[Estimate]:
        """The same in each of the B rings."""
        rings = zip(self.missing.bands.T, self.error.bands.T, strict=True)
        return [bootstrap_ratio(missing, error, seed=seed, paired=True) for missing, error in rings]


def luma(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> float64 (N, H, W) in [0, 1]; colour by Rec. 601.

    Raises:
        UserError: not an image set, or an empty one.
    """
    check_images(images, "images")
    images = moved(images)
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
    return _join([_spectrum(luma(batch)) for batch in images.split(_batch_size(images))])


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
    size = _batch_size(real)
    batches = zip(real.split(size), reconstruction.split(size), strict=True)
    lumas = ((luma(x), luma(y)) for x, y in batches)
    spectra = [(_spectrum(x), _spectrum(y), _spectrum(x - y)) for x, y in lumas]
    original, output, error = (_join(list(parts)) for parts in zip(*spectra, strict=True))
    if not (error.bands.sum(0) > 0).all() or not error.high.sum() > 0:
        raise UserError("reconstruction: no error at some frequencies, so no ratio; compare lossy ones")
    missing = [a - b for a, b in zip(_parts(original), _parts(output), strict=True)]
    return AveragingIdentity(PowerSpectrum(original.frequencies, *missing), error)


def spectral_distance(real: PowerSpectrum, fake: PowerSpectrum, *, paired: bool = False) -> Estimate:
    """Root mean square difference of the logarithms (base e) of two mean spectra, over all rings, those in
    the corners included.

    0 = the same spectrum; a Gaussian blur of 1 pixel gives about 4.5. Two-sided: too much power counts as too little.
    Sampling adds its variance to the square, which is subtracted, so that equal distributions give about 0. The
    interval is that of the square, a quadratic form of nearly normal differences, whose variance is
    4 d'Vd + 2 tr V^2 with d the differences and V their covariance.

    Args:
        real: Of N images.
        fake: Of M images of the same size.
        paired: `fake` are reconstructions of `real`, in the same order.

    Raises:
        UserError: images of other sizes, fewer than two, pairs of different lengths, or a band without any power.
    """
    first, second = (torch.cat([x.bands, x.corner_bands], dim=1) for x in (real, fake))
    if first.shape[1] != second.shape[1] or not torch.equal(real.frequencies, fake.frequencies):
        raise UserError("fake: another spectrum's frequencies; compare images of one size")
    if paired and len(first) != len(second):
        raise UserError(f"fake: {len(second)} images for {len(first)} in real; pairs need as many")
    logs, influences = zip(_log_mean(first, "real"), _log_mean(second, "fake"), strict=True)
    difference = logs[1] - logs[0]
    if paired:
        covariance = _covariance(influences[1] - influences[0])
    else:
        covariance = _covariance(influences[0]) + _covariance(influences[1])
    trace = 2 * covariance.square().sum()
    variance = torch.maximum(4 * difference @ covariance @ difference - trace, trace)
    bins = len(difference)
    square = normal_estimate(
        float(difference.square().sum() - covariance.trace()) / bins,
        float(variance.sqrt()) / bins,
        min(len(first), len(second)),
    )
    value, low, high = (max(number, 0.0) ** 0.5 for number in (square.value, square.low, square.high))
    return Estimate(value, low, high, square.n)


def _covariance(influences: Tensor) -> Tensor:
    """Of the mean over images, whose influences (N, B) sum to 0."""
    return influences.T @ influences / (len(influences) * (len(influences) - 1))


def _log_mean(powers: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Logarithm of the mean over images (N, B) -> (B,), and each image's part in its error (N, B)."""
    if len(powers) < 2:
        raise UserError(f"{name}: {len(powers)} image is too few for an interval; give at least 2")
    mean = powers.mean(0)
    if not (mean > 0).all():
        raise UserError(f"{name}: no power at some frequencies, as in images of one colour; use others")
    return mean.log(), powers / mean - 1


def _spectrum(values: Tensor) -> PowerSpectrum:
    count, height, width = values.shape
    power = torch.fft.fft2(values - values.mean((1, 2), keepdim=True), norm="forward").abs().square()
    frequencies, rings, corners, others = (part.to(values.device) for part in _regions(height, width))
    power = power.reshape(count, -1)
    low, middle, high, beyond = (power @ others).unbind(1)
    return PowerSpectrum(frequencies.cpu(), power @ rings, beyond, power @ corners, low, middle, high)


@lru_cache(maxsize=4)
def _regions(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rings' mean frequencies (B,), and weights (H W, ...) whose products with powers are means.

    They are those of the rings (B), of the rings in the corners (K), and of low, middle, high and all corners (4).
    """
    fy, fx = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    radius = torch.hypot(fy[:, None], fx).reshape(-1)
    radius = radius.mul(2**40).round().div(2**40)  # 7 / 28 must not pass for more than .25
    ring = torch.ceil(radius * 2 * _BANDS)
    low, high, beyond = (radius > 0) & (radius <= _MIDDLE), radius > _HIGH, ring > _BANDS
    others = _weights([low, (radius > _MIDDLE) & ~high, high, beyond])
    rings = _weights([ring == index for index in range(1, _BANDS + 1)])
    corners = _weights([ring == index for index in range(_BANDS + 1, int(ring.max()) + 1)])
    return radius @ rings, rings, corners, others


def _weights(regions: list[Tensor]) -> Tensor:
    """Of the means over regions, those without a bin left out."""
    return torch.stack([region.double() / region.sum() for region in regions if region.any()], dim=1)


def _parts(spectrum: PowerSpectrum) -> list[Tensor]:
    return [getattr(spectrum, field.name) for field in fields(spectrum)[1:]]


def _join(spectra: list[PowerSpectrum]) -> PowerSpectrum:
    parts = zip(*(_parts(spectrum) for spectrum in spectra), strict=True)
    return PowerSpectrum(spectra[0].frequencies, *(back(torch.cat(part)) for part in parts))


def _batch_size(images: Tensor) -> int:
    """Images whose transforms fit a few dozen MB."""
    return max(1, _PIXELS // images[0, 0].numel())


def _check_size(images: Tensor) -> None:
    if min(images.shape[-2:]) < SMALLEST:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"images: {size} pixels are too few for a spectrum; use 16 x 16 or more")
