"""Reconstructions and their originals as two sets whose images come in pairs, and the worst tenth of the pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_finite
from hfgen.metrics.distances import frechet_distance, moments
from hfgen.metrics.intervals import Estimate, debiased_estimate, normal_estimate

_FEWEST = 10


def paired_frechet_distance(real: Tensor, reconstruction: Tensor, *, seed: int) -> tuple[Estimate, Estimate]:
    """The Frechet distance between features (N, D) and those of what was made of each, in one order.

    Returns:
        It without bias (see `frechet_distance_interval`), by halves that keep the pairs together; and as it is, from
        all images: the plug-in value, which papers call rFID in Inception's features, with as wide an interval.

    Raises:
        UserError: not two sets of one shape, fewer than 2 (D + 1) or four rows, NaN or infinity.
    """
    real, reconstruction = check_feature_pair(real, reconstruction, 4, names=("real", "reconstruction"))
    size, needed = len(real), 2 * (real.shape[1] + 1)
    if len(reconstruction) != size:
        raise UserError(f"reconstruction: {len(reconstruction)} images for {size} in real; give pairs, in one order")
    if size < needed:
        raise UserError(f"fd: {size} images are too few for {real.shape[1]} features, which need {needed}; give more")

    def distance(pairs: Tensor, _: Tensor) -> float:
        first, second = pairs.chunk(2, dim=1)
        return frechet_distance(*moments(first), *moments(second))

    pairs = torch.cat([real, reconstruction], 1)
    debiased, plug_in = debiased_estimate(distance, pairs, pairs, seed=seed), distance(pairs, pairs)
    low, high = (max(plug_in + end - debiased.value, 0.0) for end in (debiased.low, debiased.high))
    return debiased, Estimate(plug_in, low, high, size)


def worst_tenth(values: Tensor, *, highest: bool) -> Estimate:
    """The mean of the highest, or of the lowest, tenth of one value per image (N,), as a tail's expectation.

    Its interval is the normal one: the tail mean's influence is an image's excess over the quantile, over the share
    (Rockafellar & Uryasev 2000; Chen 2008).

    Raises:
        UserError: not (N,), fewer than ten values, NaN or infinity.
    """
    if values.ndim != 1:
        raise UserError(f"values: shape {tuple(values.shape)}; give (N,), one value per image")
    if len(values) < _FEWEST:
        raise UserError(f"values: {len(values)} are too few for a worst tenth; give at least {_FEWEST}")
    check_finite(values, "values")
    signed = values.double().cpu() * (1 if highest else -1)
    count = len(signed)
    tail = signed.sort(descending=True).values[: math.ceil(count / 10)]
    excess = (signed - tail[-1]).clamp_min(0) * (count / len(tail))
    value, error = float(tail.mean()), float(excess.std()) / count**0.5
    return normal_estimate(value if highest else -value, error, count)
