"""Real images against their reconstructions, frequency by frequency: how much power, how much of it true, how scaled.

With x a real image and r its reconstruction, in the Fourier coefficients of a band summed over images:
gain <x, r> / <r, r>, coherence <x, r>^2 / (<x, x> <r, r>), power <r, r> / <x, x>. Hence coherence = gain^2 power.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_images
from hfgen.metrics.intervals import Estimate, bootstrap_of_means, bootstrap_ratio
from hfgen.metrics.placement import in_parts
from hfgen.metrics.spectrum import (
    PowerSpectrum,
    Window,
    batch_size,
    check_size,
    chroma,
    joined,
    luma,
    spectrum_of,
    total_power,
    transform,
)

_BANDS = ("low", "middle", "high")
# How far from 1 the gain of what is called a conditional mean may be.
_CALIBRATED = (0.95, 1.05)
_TINY = torch.finfo(torch.float64).tiny

Calibration = Literal["conditional mean", "shrunk", "made up", "undecided"]


class Band(NamedTuple):
    """One band of pairs of images.

    `gain`: 1 where the reconstruction is the best linear prediction from itself, as a conditional mean E[x | z] is;
    above 1 where it is shrunk or low-passed; below 1 where detail is made up.
    `coherence`: the share of the real power that a linear prediction from the reconstruction explains, in [0, 1].
    `power`: the reconstruction's over the real images', at least 0. That of a conditional mean is its coherence.
    """

    gain: Estimate
    coherence: Estimate
    power: Estimate


@dataclass(frozen=True)
class AveragingIdentity:
    """(S_real - S_reconstruction) / S_error: 1 for a conditional mean, whose error is orthogonal to it.

    It is 1, too, where hardly any power is left, and above 1 for any low-pass: judge by the gain.
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
            for name in _BANDS
        }

    def ring_estimates(self, *, seed: int) -> list[Estimate]:
        """The same in each of the B rings."""
        rings = zip(self.missing.bands.T, self.error.bands.T, strict=True)
        return [bootstrap_ratio(missing, error, seed=seed, paired=True) for missing, error in rings]


@dataclass(frozen=True)
class BandMeasures:
    """Powers of N pairs, image by image: of x, of r, of their error x - r, and the real part of their product x r*."""

    real: PowerSpectrum
    reconstruction: PowerSpectrum
    error: PowerSpectrum
    product: PowerSpectrum

    def estimates(self, *, seed: int) -> dict[str, Band]:
        """In the bands `low`, `middle` and `high` of `PowerSpectrum`.

        Raises:
            UserError: fewer than two images, or a band in which the real images or their reconstructions have no power.
        """
        real, made, products = (
            torch.stack([getattr(spectrum, name) for name in _BANDS], 1)
            for spectrum in (self.real, self.reconstruction, self.product)
        )
        return dict(zip(_BANDS, _bands(real, made, products, seed), strict=True))

    def ring_estimates(self, *, seed: int) -> list[Band]:
        """In each of the B rings; errors as `estimates`."""
        return _bands(self.real.bands, self.reconstruction.bands, self.product.bands, seed)

    def kept(self, height: int, width: int, *, seed: int) -> dict[str, Estimate]:
        """`coherence` and `power` over all frequencies of images of this size, and `gain` where anything is left.

        Unlike in `estimates`, reconstructions may have no power: then both are 0.

        Raises:
            UserError: fewer than two images, or real ones without any power.
        """
        spectra = self.real, self.reconstruction, self.product
        totals = torch.stack([total_power(spectrum, height, width) for spectrum in spectra], 1)
        if not totals[:, 0].sum() > 0:
            raise UserError("real: no power at any frequency; use images that aren't flat")

        def measures(means: Tensor) -> Tensor:
            x, r, xr = means.unbind(-1)
            root = torch.where(r > 0, xr / (x * r).sqrt().clamp_min(_TINY), 0)
            return torch.stack([root, r / x], -1)

        root, power = bootstrap_of_means(totals, measures, seed=seed)
        found = {"coherence": _square(root), "power": power}
        if totals[:, 1].sum() > 0:
            found["gain"] = bootstrap_ratio(totals[:, 2], totals[:, 1], seed=seed, paired=True)
        return found

    def rings(self) -> dict[str, list[float]]:
        """`coherence` and `power` of each ring, 0 where there is none."""
        x, r, xr = (spectrum.bands.mean(0) for spectrum in (self.real, self.reconstruction, self.product))
        coherence = torch.where(x * r > 0, xr.square() / (x * r).clamp_min(_TINY), 0).clamp_max(1)
        power = torch.where(x > 0, r / x.clamp_min(_TINY), 0)
        return {"coherence": coherence.tolist(), "power": power.tolist()}

    def averaging_identity(self) -> AveragingIdentity:
        """The same powers as one ratio.

        Raises:
            UserError: reconstructions without any error.
        """
        if not (self.error.bands.sum(0) > 0).all() or not self.error.high.sum() > 0:
            raise UserError("reconstruction: no error at some frequencies, so no ratio; compare lossy ones")
        names = ("bands", "corners", "corner_bands", "low", "middle", "high")
        missing = {name: getattr(self.real, name) - getattr(self.reconstruction, name) for name in names}
        return AveragingIdentity(replace(self.real, **missing), self.error)


def bands_alone(low: Tensor, middle: Tensor, high: Tensor) -> PowerSpectrum:
    """Powers (N,) of three bands as a spectrum without rings, as of images that have none in common."""
    none = torch.zeros(len(low), 0, dtype=torch.float64)
    return PowerSpectrum(torch.zeros(0), none, torch.zeros_like(low), none, low, middle, high)


def band_measures(real: Tensor, reconstruction: Tensor, window: Window = "none") -> BandMeasures:
    """Compare uint8 (N, C, H, W) with their reconstructions, in the same order; `window` as for `power_spectrum`.

    Raises:
        UserError: as `power_spectrum`, or shapes that differ.
    """
    _check_pairs(real, reconstruction)
    parts = []
    for x, r in in_parts(batch_size(real), real, reconstruction):
        parts.append(_powers(luma(x), luma(r), window))
    return _joined(parts)


def chroma_measures(real: Tensor, reconstruction: Tensor, window: Window = "none") -> dict[str, BandMeasures]:
    """`band_measures` of the colour of RGB images, by `cb` and `cr`: the blue and the red difference of Rec. 601.

    Raises:
        UserError: as `band_measures`, or grey images.
    """
    _check_pairs(real, reconstruction)
    parts: dict[str, list[list[PowerSpectrum]]] = {"cb": [], "cr": []}
    for x, r in in_parts(batch_size(real), real, reconstruction):
        for name, first, second in zip(parts, chroma(x), chroma(r), strict=True):
            parts[name].append(_powers(first, second, window))
    return {name: _joined(spectra) for name, spectra in parts.items()}


def _powers(first: Tensor, second: Tensor, window: Window) -> list[PowerSpectrum]:
    """Of planes (N, H, W): those of `BandMeasures`, in its order."""
    x, r = transform(first, window), transform(second, window)
    pairs = (x, x), (r, r), (x - r, x - r), (x, r)
    return [spectrum_of(a, first.shape, window, b) for a, b in pairs]


def _joined(parts: list[list[PowerSpectrum]]) -> BandMeasures:
    return BandMeasures(*(joined(list(spectra)) for spectra in zip(*parts, strict=True)))


def _check_pairs(real: Tensor, reconstruction: Tensor) -> None:
    check_images(reconstruction, "reconstruction")
    check_size(real, "real")
    if real.shape != reconstruction.shape:
        shapes = f"{tuple(reconstruction.shape)} against {tuple(real.shape)} of real"
        raise UserError(f"reconstruction: shape {shapes}; give one per real image, at the same size")


def averaging_identity(real: Tensor, reconstruction: Tensor, window: Window = "none") -> AveragingIdentity:
    """That of `band_measures`, with the errors of both."""
    return band_measures(real, reconstruction, window).averaging_identity()


def calibration(gain: Estimate) -> Calibration:
    """What a band's gain says: whether the reconstruction is the mean of what the model can't tell apart.

    `conditional mean` where the whole interval lies in [.95, 1.05], `shrunk` where it lies above, `made up` below, else
    `undecided`. A gain of 1 says that no factor would bring the reconstruction nearer to the real images, which is
    necessary for a conditional mean, and sufficient among Gaussians. How much of the real images it knows is the
    coherence: the mean image of the data, a conditional mean given nothing, has a gain of 1. What the latent says and
    the decoder doesn't read isn't told apart from what it doesn't say.
    """
    least, most = _CALIBRATED
    if least <= gain.low and gain.high <= most:
        return "conditional mean"
    if gain.low > most:
        return "shrunk"
    return "made up" if gain.high < least else "undecided"


def is_conditional_mean(bands: dict[str, Band]) -> bool | None:
    """Whether all bands are calibrated; None where these images are too few to tell."""
    found = {calibration(band.gain) for band in bands.values()}
    if found == {"conditional mean"}:
        return True
    return False if found & {"shrunk", "made up"} else None


def _bands(real: Tensor, made: Tensor, products: Tensor, seed: int) -> list[Band]:
    """Of each column of powers (N, B)."""
    for name, powers in (("real", real), ("reconstruction", made)):
        if not (powers.sum(0) > 0).all():
            raise UserError(f"{name}: no power at some frequencies, so no gain; use images that aren't flat")
    count = real.shape[1]

    def measures(means: Tensor) -> Tensor:
        x, r, xr = means.split(count, dim=-1)
        # The coherence by its signed root: squares of resamples never reach 0.
        return torch.cat([xr / r, xr / (x * r).sqrt(), r / x], dim=-1)

    found = bootstrap_of_means(torch.cat([real, made, products], 1), measures, seed=seed)
    columns = zip(found[:count], found[count : 2 * count], found[2 * count :], strict=True)
    return [Band(gain, _square(root), power) for gain, root, power in columns]


def _square(root: Estimate) -> Estimate:
    """Of a number in [-1, 1]."""
    ends = sorted(min(end**2, 1.0) for end in (root.low, root.high))
    value = min(root.value**2, 1.0)
    low = 0.0 if root.low <= 0 <= root.high else ends[0]
    return Estimate(value, min(low, value), max(ends[1], value), root.n)
