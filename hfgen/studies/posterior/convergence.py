"""Do runs agree, and how many independent draws are they worth?"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Of images: their mean (C, R, R), and their variance, summed over the pixels."""

    mean: Tensor
    variance: float


def moments(images: Tensor) -> Moments:
    """Of draws (N, C, R, R)."""
    mean = images.double().mean(0)
    return Moments(mean, float((images.double() - mean).square().sum() / len(images)))


def mixed(parts: list[Moments], log_evidences: list[float]) -> Moments:
    """Runs of one posterior, each weighted by its evidence: one that missed the main mode has little."""
    shares = torch.tensor(log_evidences, dtype=torch.float64).softmax(0)
    mean = sum((share * part.mean for share, part in zip(shares, parts, strict=True)), torch.zeros(()))
    spread = [part.variance + float((part.mean - mean).square().sum()) for part in parts]
    return Moments(mean, sum(float(share) * each for share, each in zip(shares, spread, strict=True)))


def disagreement(first: Moments, second: Moments) -> float:
    """Gelman and Rubin's R of two runs, over the pixels: 1 where their means agree beside their variance."""
    between = float((first.mean - second.mean).square().sum()) / 2
    within = (first.variance + second.variance) / 2
    return math.sqrt(1 + between / max(within, 1e-12))


def effective_size(chains: Tensor) -> float:
    """Effective sample size of the mean of P chains of T values, (T, P).

    From the autocorrelation over all chains, by Geyer's initial monotone sequence (Vehtari et al., 1903.08008, section
    3.2, without splitting): chains that sit apart count little. Of constant chains: 1.
    """
    steps, count = chains.shape
    centred = chains.double() - chains.double().mean(0)
    within = float(centred.square().sum() / (count * (steps - 1)))
    between = steps * float(chains.double().mean(0).var()) if count > 1 else 0.0
    total = within * (steps - 1) / steps + between / steps
    if total <= 0:
        return 1.0
    sums, least = 0.0, math.inf
    for lag in range(0, steps - 1, 2):
        pair = sum(1 - (within - _covariance(centred, each)) / total for each in (lag, lag + 1))
        least = min(least, pair)
        if least <= 0:
            break
        sums += least
    return min(steps * count / max(2 * sums - 1, 1e-12), float(steps * count))


def _covariance(centred: Tensor, lag: int) -> float:
    """Mean over chains of the autocovariance at a lag."""
    steps, count = centred.shape
    return float((centred[: steps - lag] * centred[lag:]).sum() / (count * (steps - 1)))
