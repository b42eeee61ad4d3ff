"""Where in frequency an image set has its power.

Frequencies are in cycles per pixel. Powers are |F|^2 / (H W)^2 of the luma, so that those of an image's
non-DC bins sum to its variance (Parseval). Rings stop at the Nyquist frequency .5; the corners of the
spectrum, where checkerboards appear, are kept apart.

The discrete transform joins opposite borders. Where they differ, as in photographs, that step is power at all
frequencies, which no blur removes: such sets are measured through a Hann window (see `spectral_window`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.intervals import Estimate, squared_distance_estimate
from hfgen.metrics.placement import back, in_parts, moved

Window = Literal["none", "hann"]

_BANDS = 16
_MIDDLE, _HIGH = 0.125, 0.25
SMALLEST = 16
_PIXELS = 2**20
# Of a set whose opposite borders differ by more than neighbours do; 1/f fields of 32 px have 4, white noise 1.
_SEAM = 2.0
_BANDS_OF_SPECTRUM = ("bands", "corners", "corner_bands", "low", "middle", "high")
_REC_601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class PowerSpectrum:
    """Mean power per bin, image by image, as float64.

    `frequencies` (B,): the mean frequency of each ring's bins, in (0, .5]. Rings are 1/32 wide: B is 16 from
    32 pixels on, less below, where rings without a bin are left out.
    `bands` (N, B): the rings. `corners` (N,): beyond .5. `corner_bands` (N, K): the same in rings as wide, of which
    the last of a square image holds the finest checkerboard alone, or nearly.
    `low`, `middle`, `high` (N,): up to .125, up to .25, and beyond .25, corners included.
    `window`: what the images were multiplied with first; powers of different windows can't be compared.
    """

    frequencies: Tensor
    bands: Tensor
    corners: Tensor
    corner_bands: Tensor
    low: Tensor
    middle: Tensor
    high: Tensor
    window: Window = "none"


def luma(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> float64 (N, H, W) in [0, 1]; colour by Rec. 601.

    Raises:
        UserError: not an image set, or an empty one.
    """
    check_images(images, "images")
    images = moved(images)
    if images.shape[1] == 1:
        return images[:, 0].double() / 255
    first, *others = _REC_601
    brightness = images[:, 0].double().mul_(first)
    for channel, weight in enumerate(others, 1):
        brightness.add_(images[:, channel].double(), alpha=weight)
    return brightness.div_(255)


def chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, H, W) -> blue and red differences Cb and Cr of Rec. 601, float64 (N, H, W) in [-.5, .5].

    Raises:
        UserError: not an image set, an empty one, or grey images.
    """
    brightness = luma(images)
    if images.shape[1] != 3:
        raise UserError("images: grey ones have no chroma; give RGB")
    red, blue = (moved(images[:, channel]).double().div_(255) for channel in (0, 2))
    reds, _, blues = _REC_601
    return (blue - brightness).div_(2 * (1 - blues)), (red - brightness).div_(2 * (1 - reds))


def spectral_window(real: Tensor) -> Window:
    """The window for the spectra of uint8 real images (N, C, H, W), and of all that is compared with them.

    `hann` where the squared difference of opposite borders is more than twice that of neighbouring pixels, on average
    over images and both axes: 0 for glyphs and other images on one background, 1 for white noise, 4 and more for
    photographs.

    Raises:
        UserError: as `power_spectrum`.
    """
    check_size(real, "real")
    seam, inside = 0.0, 0.0
    for (batch,) in in_parts(batch_size(real), real):
        values = luma(batch)
        for lines in (values, values.transpose(1, 2)):
            share = len(batch) / len(real)
            seam += share * float((lines[:, 0] - lines[:, -1]).square().mean())
            inside += share * float(lines.diff(dim=1).square().mean())
    return "hann" if seam > _SEAM * inside else "none"


def power_spectrum(images: Tensor, window: Window = "none") -> PowerSpectrum:
    """The spectrum of each image's luma; uint8 (N, C, H, W), sides of at least 16.

    `window`: `none`, or `hann`, which is 0 at the borders and leaves the power of white noise as it is. Choose the same
    for all images that are compared, by `spectral_window` of the real ones.

    Raises:
        UserError: not an image set, an empty one, or too small.
    """
    check_size(images, "images")
    batches = in_parts(batch_size(images), images)
    # Batch by batch: the coefficients of a whole set would take gigabytes.
    return joined([spectrum_of(transform(luma(batch), window), images.shape, window) for (batch,) in batches])


def high_frequency_ratio(images: PowerSpectrum, real: PowerSpectrum) -> float:
    """Mean power beyond .25 cycles per pixel over that of the real images: 1 = as sharp as real.

    Raises:
        UserError: the real images have no such power.
    """
    check_windows(real, images, "images")
    reference = float(real.high.mean())
    if reference == 0:
        raise UserError("real: the images have no power above .25 cycles/pixel; use images that aren't flat")
    return float(images.high.mean()) / reference


def spectral_distance(real: PowerSpectrum, fake: PowerSpectrum, *, paired: bool = False) -> Estimate:
    """Root mean square difference of the logarithms (base e) of two mean spectra, over all rings, those in
    the corners included.

    0 = the same spectrum; a Gaussian blur of 1 pixel gives about 4.5. Two-sided: too much power counts as too little.
    Sampling adds its variance to the square, which is subtracted, so that equal distributions give about 0. The
    interval is that of the square, a quadratic form of nearly normal differences d of covariance V, whose variance is
    4 d'Vd + 2 tr V^2.

    Args:
        real: Of N images.
        fake: Of M images of the same size.
        paired: `fake` are reconstructions of `real`, in the same order.

    Raises:
        UserError: images of other sizes, fewer than two, pairs of different lengths, or a band without any power.
    """
    check_windows(real, fake, "fake")
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
    bins = len(difference)
    square = squared_distance_estimate(
        float(difference.square().sum() - covariance.trace()) / bins,
        4 * float(difference @ covariance @ difference) / bins**2,
        2 * float(covariance.square().sum()) / bins**2,
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


def transform(values: Tensor, window: Window) -> Tensor:
    """Fourier coefficients (N, H, W // 2 + 1) of luma (N, H, W): complex, 0 at frequency 0.

    The other half are the conjugates of these.
    """
    if window == "none":
        return torch.fft.rfft2(values - values.mean((1, 2), keepdim=True), norm="forward")
    weights = _hann(*values.shape[1:]).to(values.device)
    # The window's mean, not the plain one, so that brightness doesn't leak into the lowest ring.
    mean = (values * weights).mean((1, 2), keepdim=True) / weights.mean()
    return torch.fft.rfft2((values - mean) * weights, norm="forward")


def spectrum_of(coefficients: Tensor, size: torch.Size, window: Window, other: Tensor | None = None) -> PowerSpectrum:
    """The powers of `transform`'s coefficients of images of `size` (..., H, W) by band.

    With `other` ones, the real part of their product x y*.
    """
    other = coefficients if other is None else other
    products = coefficients.real * other.real + coefficients.imag * other.imag
    count = len(products)
    frequencies, rings, corners, others, _ = (part.to(products.device) for part in _regions(size[-2], size[-1]))
    products = products.reshape(count, -1)
    low, middle, high, beyond = (products @ others).unbind(1)
    return PowerSpectrum(frequencies.cpu(), products @ rings, beyond, products @ corners, low, middle, high, window)


def total_power(spectrum: PowerSpectrum, height: int, width: int) -> Tensor:
    """The sum over all bins but frequency 0, (N,): without a window the variance of images of this size."""
    return torch.cat([spectrum.bands, spectrum.corner_bands], 1) @ _regions(height, width)[-1]


@lru_cache(maxsize=4)
def _hann(height: int, width: int) -> Tensor:
    """(H, W), with a mean square of 1."""
    columns = [0.5 - 0.5 * torch.cos(2 * torch.pi * (torch.arange(n) + 0.5).double() / n) for n in (height, width)]
    weights = columns[0][:, None] * columns[1]
    return weights / weights.square().mean().sqrt()


@lru_cache(maxsize=4)
def _regions(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The rings' mean frequencies (B,), and weights (H (W // 2 + 1), ...) whose products with powers are means.

    They are those of the rings (B), of the rings in the corners (K), and of low, middle, high and all corners (4). The
    last are the numbers of bins of all rings (B + K,).
    """
    fy, fx = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    radius = torch.hypot(fy[:, None], fx).reshape(-1)
    radius = radius.mul(2**40).round().div(2**40)  # 7 / 28 must not pass for more than .25
    # Of a bin and its conjugate one is here, but of the columns at 0 and at the Nyquist frequency both.
    bins = torch.full((height, len(fx)), 2.0, dtype=torch.float64)
    bins[:, 0] = 1
    if width % 2 == 0:
        bins[:, -1] = 1
    bins = bins.reshape(-1)
    ring = torch.ceil(radius * 2 * _BANDS)
    low, high, beyond = (radius > 0) & (radius <= _MIDDLE), radius > _HIGH, ring > _BANDS
    others, _ = _weights([low, (radius > _MIDDLE) & ~high, high, beyond], bins)
    rings, counts = _weights([ring == index for index in range(1, _BANDS + 1)], bins)
    corners, more = _weights([ring == index for index in range(_BANDS + 1, int(ring.max()) + 1)], bins)
    return radius @ rings, rings, corners, others, torch.cat([counts, more])


def _weights(regions: list[Tensor], bins: Tensor) -> tuple[Tensor, Tensor]:
    """Of the means over regions, and how many bins each has; those without a bin are left out."""
    counted = torch.stack([region * bins for region in regions if region.any()], dim=1)
    return counted / counted.sum(0), counted.sum(0)


def joined(spectra: list[PowerSpectrum]) -> PowerSpectrum:
    """Those of batches as that of their set."""
    parts = [back(torch.cat([getattr(spectrum, name) for spectrum in spectra])) for name in _BANDS_OF_SPECTRUM]
    bands, corners, corner_bands, low, middle, high = parts
    first = spectra[0]
    return PowerSpectrum(first.frequencies, bands, corners, corner_bands, low, middle, high, first.window)


def batch_size(images: Tensor) -> int:
    """Images whose transforms fit a few dozen MB."""
    return max(1, _PIXELS // images[0, 0].numel())


def check_size(images: Tensor, name: str) -> None:
    """Refuse anything but an image set with sides of at least 16."""
    check_images(images, name)
    if min(images.shape[-2:]) < SMALLEST:
        size = f"{images.shape[-2]} x {images.shape[-1]}"
        raise UserError(f"{name}: {size} pixels are too few for a spectrum; use 16 x 16 or more")


def check_windows(real: PowerSpectrum, other: PowerSpectrum, name: str) -> None:
    """Refuse spectra that were taken through different windows."""
    if real.window != other.window:
        raise UserError(f"{name}: window {other.window} against {real.window} of real; take both through one window")
