"""Whether latents suit a diffusion model: their statistics by channel, spectrum, redundancy and bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_finite

_NUMBERS = 2**22
_RINGS = 8
_SMALLEST_GRID = 4
_KEPT = 0.99


@dataclass(frozen=True)
class ChannelStatistics:
    """Of latents (N, c, h, w), by channel (c,) over images and places, float64.

    Attributes:
        mean: Mean.
        deviation: Standard deviation; with a posterior's own variance in it, where there is one.
        kurtosis: Fourth moment over the squared variance of the means; 3 for a normal distribution, more with outliers.
        components: Principal components of the channels (by place) that hold 99 % of their variance.
    """

    mean: Tensor
    deviation: Tensor
    kurtosis: Tensor
    components: int


def channel_statistics(latents: Tensor, variances: Tensor | None = None) -> ChannelStatistics:
    """Of latents (N, c, h, w), in parts; `variances` (N, c): the mean variance of each image's posterior.

    Raises:
        UserError: not (N, c, h, w), empty, NaN or infinity.
    """
    _check(latents)
    mean = sum((part.sum(1) for part in _parts(latents)), torch.zeros(latents.shape[1], dtype=torch.float64))
    count = latents[:, 0].numel()
    mean = mean / count
    scatter, fourth = torch.zeros(len(mean), len(mean), dtype=torch.float64), torch.zeros_like(mean)
    for part in _parts(latents):
        centred = part - mean[:, None]
        scatter += centred @ centred.T
        fourth += centred.pow(4).sum(1)
    covariance = scatter / count
    own = covariance.diagonal()
    spread = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).cumsum(0)
    kurtosis = torch.where(own > 0, fourth / count / own.square(), 0)
    more = 0 if variances is None else variances.double().cpu().mean(0)
    components = int((spread < _KEPT * spread[-1]).sum()) + 1
    return ChannelStatistics(mean, (own + more).sqrt(), kurtosis, components)


def latent_spectrum(latents: Tensor) -> tuple[list[float], list[float]]:
    """Frequencies in cycles per latent pixel, and the power of latents (N, c, h, w) at them; 1 everywhere is white.

    Of each channel less its mean over places, through a Hann window, over the mean power of all frequencies; channels
    count by their variance. The fewer high frequencies, the easier a latent is to diffuse (2502.14831).

    Raises:
        UserError: as `channel_statistics`, grids under 4 x 4, or latents of no variance.
    """
    _check(latents)
    height, width = latents.shape[2:]
    if min(height, width) < _SMALLEST_GRID:
        raise UserError(f"latents: grids of {height} x {width} are too small for a spectrum; use 4 x 4 or more")
    window = torch.hann_window(height, False)[:, None] * torch.hann_window(width, False)
    power = torch.zeros(height, width, dtype=torch.float64)
    for part in latents.split(max(1, _NUMBERS // latents[0].numel())):
        values = part.double()
        centred = (values - (values * window).mean((2, 3), keepdim=True) / window.mean()) * window
        power += torch.fft.fft2(centred).abs().square().sum((0, 1))
    fy, fx = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    radius = torch.hypot(fy[:, None], fx)
    inside = (radius > 0) & (radius <= 0.5)
    mean = power[radius > 0].mean()
    if not mean > 0:
        raise UserError("latents: they are the same everywhere, so they have no spectrum; check the model")
    ring = torch.ceil(radius * 2 * _RINGS).long()
    rings = [inside & (ring == index) for index in range(1, _RINGS + 1)]
    used = [bins for bins in rings if bins.any()]
    return [float(radius[bins].mean()) for bins in used], [float(power[bins].mean() / mean) for bins in used]


def posterior_bits(statistics: ChannelStatistics, log_variances: Tensor, places: int) -> float:
    """Bits of an image's latent: the rate of its posterior N(mu, s^2) over a normal density fitted to each channel.

    It bounds what the latent says of the image from above, whatever the latent's scale. `log_variances` (N, c): mean
    logarithm of s^2; `places`: h w.

    Raises:
        UserError: a channel of no variance, NaN or infinity.
    """
    check_finite(log_variances, "log_variances")
    if not (statistics.deviation > 0).all():
        raise UserError("latents: a channel doesn't vary, so it has no rate; check the model")
    nats = statistics.deviation.log() - 0.5 * log_variances.double().cpu().mean(0)
    return float(nats.clamp_min(0).sum()) * places / math.log(2)


def _parts(latents: Tensor) -> Iterator[Tensor]:
    """(c, places) of some images after another, float64."""
    for part in latents.split(max(1, _NUMBERS // latents[0].numel())):
        yield part.double().transpose(0, 1).flatten(1)


def _check(latents: Tensor) -> None:
    if latents.ndim != 4 or latents.numel() == 0:
        raise UserError(f"latents: shape {tuple(latents.shape)}; give (N, c, h, w), not empty")
    check_finite(latents, "latents")
