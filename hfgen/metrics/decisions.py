"""How far chance moves the number of K tests that decide one way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Farther from a threshold a test decides alike for sure.
_CERTAIN = 8.0
_PLACES = 81
_STEPS = 300


def number_variance(scores: Tensor, chance: Callable[[Tensor], Tensor]) -> float:
    """Of how many of K scores (K,), each of standard error 1, are decided on one side.

    A score whose mean is m is with probability p = `chance(m)`, and the variance is the sum of p (1 - p). Scores
    themselves differ more than their means do, whose distribution is therefore that of highest likelihood
    (Kiefer & Wolfowitz 1956).
    """
    found = scores.double()[scores.abs() < _CERTAIN]
    if len(found) == 0:
        return 0.0
    means = torch.linspace(-_CERTAIN, _CERTAIN, _PLACES, dtype=torch.float64, device=found.device)
    likelihood = (-(found[:, None] - means).square() / 2).exp()
    weights = torch.full_like(means, 1 / _PLACES)
    for _ in range(_STEPS):
        weights = weights * (likelihood / (likelihood @ weights)[:, None]).mean(0)
    p = chance(means)
    return len(found) * float(weights @ (p * (1 - p)))
