"""A judge that learns nothing: what pixels and spectra of single images say."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfgen.models.judge import Whitening

_RINGS = 12
_PLACES = 4
_QUANTILES = 9
_LUMA = (0.299, 0.587, 0.114)
# Power of the rounding to 256 levels, of pixels in [-1, 1]: below it, differences are no image's.
_ROUNDING = (2 / 255) ** 2 / 12


class PixelStatistics(nn.Module):
    """Images (N, C, S, S) in [-1, 1] -> known statistics of each, whitened by those of training images.

    Of the luma: the logarithm of the power in 12 rings of the spectrum (Hann window; the last holds the corners), 9
    quantiles, and the deviation in 4 x 4 places; of each channel: the mean in 4 x 4 places; of colour: the deviations
    of both differences from the luma, and their correlation.
    """

    def __init__(self, shape: tuple[int, ...] | torch.Size) -> None:
        super().__init__()
        channels = shape[0]
        colour = 0 if channels == 1 else 3
        self.whitening = Whitening(_RINGS + _QUANTILES + (1 + channels) * _PLACES**2 + colour)

    def statistics(self, images: Tensor) -> Tensor:
        """All of them, (N, D)."""
        luma = images if images.shape[1] == 1 else _weighted(images)
        quantiles = torch.linspace(0.05, 0.95, _QUANTILES, device=images.device)
        places = F.adaptive_avg_pool2d(luma, _PLACES)
        spread = (F.adaptive_avg_pool2d(luma.square(), _PLACES) - places.square()).clamp(min=0).sqrt()
        found = [
            _log_power(luma[:, 0]),
            luma.flatten(1).quantile(quantiles, 1).T,
            spread.flatten(1),
            F.adaptive_avg_pool2d(images, _PLACES).flatten(1),
        ]
        if images.shape[1] == 3:
            found.append(_colour(images - luma))
        return torch.cat(found, 1)

    def features(self, images: Tensor) -> Tensor:
        """The statistics, whitened: (N, K)."""
        return self.whitening(self.statistics(images))


def _weighted(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _log_power(luma: Tensor) -> Tensor:
    """(N, S, S) -> (N, 12): the mean power of each ring, over that of white noise of the same variance."""
    side = luma.shape[-1]
    line = torch.hann_window(side, periodic=False, device=luma.device)
    window = line[:, None] * line
    # The window's mean is taken out of the image, or the background would leak into the lowest rings.
    centred = luma - (luma * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2(centred * window).abs().square() / window.square().sum()
    frequency = torch.fft.fftfreq(side, device=luma.device)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    ring = (radius * 2 * (_RINGS - 1)).long().clamp(max=_RINGS - 1).flatten()
    count = ring.bincount(minlength=_RINGS).clamp(min=1)
    sums = torch.zeros(len(luma), _RINGS, device=luma.device).index_add_(1, ring, power.flatten(1))
    return (sums / count + _ROUNDING).log()


def _colour(differences: Tensor) -> Tensor:
    """Red and blue without the luma: their deviations, and how they go together, (N, 3)."""
    red, blue = differences[:, 0].flatten(1), differences[:, 2].flatten(1)
    red, blue = red - red.mean(1, keepdim=True), blue - blue.mean(1, keepdim=True)
    return torch.stack([red.std(1), blue.std(1), (red * blue).mean(1)], 1)
