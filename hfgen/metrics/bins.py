"""How evenly a generator fills the regions of the data (Richardson & Weiss, 1805.12462)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair
from hfgen.metrics.decisions import number_variance
from hfgen.metrics.intervals import Estimate, debiased_estimate

_SIGNIFICANT = 1.96
_ITERATIONS = 20


class NDB(NamedTuple):
    """How differently two sets fill the same bins.

    `different`: the number of bins whose shares differ at the 5 % level; equal distributions have 5 % of them on
    average, and more images see more differences: compare at equal numbers. `jsd`: the Jensen-Shannon divergence of
    the shares in nats, in [0, ln 2], freed of its bias, hence sometimes negative.
    """

    different: Estimate
    jsd: Estimate


def ndb(real: Tensor, fake: Tensor, training: Tensor, bins: int = 100, *, seed: int) -> NDB:
    """Compare the shares of features (N, D) of real and (M, D) of generated images in k-means cells of training images.

    The cells' images (L, D) are in neither set: real images would fill cells that were fitted to them as no others
    do, so that even equal distributions would differ (a divergence of .020 at N = 500 and 50 bins). Given the cells,
    both sets' numbers are multinomial.

    Each bin has a two-proportion z-test with the pooled share. A bin whose z is m on average is seen to differ with
    probability P(|N(m, 1)| > 1.96); see `number_variance` for the interval of their number.

    Raises:
        UserError: not three sets of one width, fewer than two bins, fewer than 10 training images or no different one
            for each, fewer than four real or generated ones, NaN or infinity.
    """
    if bins < 2:
        raise UserError(f"bins: {bins} can't differ; give 2 or more (100 is usual)")
    real, fake = check_feature_pair(real, fake, at_least=4)
    real, training = check_feature_pair(real, training, at_least=4, names=("real", "training"))
    if len(training) < 10 * bins:
        most = len(training) // 10
        raise UserError(f"bins: {bins} for {len(training)} training images leave too few in each; give at most {most}")
    if (distinct := len(training.unique(dim=0))) < bins:
        raise UserError(f"bins: {bins} of only {distinct} different training images; use images that differ")
    cells = _cells(training, (real, fake), bins, seed)
    jsd = debiased_estimate(lambda x, y: _divergence(_shares(x, bins), _shares(y, bins)), *cells, seed=seed)
    return NDB(_different(*cells, bins), jsd)


def _cells(training: Tensor, sets: tuple[Tensor, Tensor], bins: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of each image of two sets."""
    from scipy.cluster.vq import kmeans2, vq

    deviation = training.std(0)
    scale = torch.where(deviation > 0, deviation, 1)
    with warnings.catch_warnings():
        # A cell that runs empty keeps its centre and doesn't differ.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        fitted = (training / scale).cpu().numpy()
        centres = kmeans2(fitted, bins, iter=_ITERATIONS, minit="++", rng=np.random.default_rng(seed))[0]
    first, second = (torch.from_numpy(vq((x / scale).cpu().numpy(), centres)[0].astype(np.int64)) for x in sets)
    return first, second


def _different(real: Tensor, fake: Tensor, bins: int) -> Estimate:
    p, q = _shares(real, bins), _shares(fake, bins)
    pooled = (p * len(real) + q * len(fake)) / (len(real) + len(fake))
    error = (pooled * (1 - pooled) * (1 / len(real) + 1 / len(fake))).sqrt()
    z = torch.where(error > 0, (p - q) / error, 0)
    count = float((z.abs() > _SIGNIFICANT).sum())
    # Of few bins, the variance grows with their number, as that of a Poisson number does.
    ratio = number_variance(z, _seen) / count if count else 1.0
    low, high = (ratio * limit for limit in _poisson_limits(count / ratio)) if ratio else (count, count)
    return Estimate(count, min(low, count), min(max(high, count), float(bins)), min(len(real), len(fake)))


def _poisson_limits(count: float) -> tuple[float, float]:
    """Of a Poisson number's mean, by the exact test's inversion (Garwood 1936): 95 % or more."""
    from scipy.special import gammaincinv

    return float(gammaincinv(count, 0.025)) if count else 0.0, float(gammaincinv(count + 1, 0.975))


def _seen(z: Tensor) -> Tensor:
    """How likely |N(z, 1)| > 1.96 is."""
    return torch.special.ndtr(z - _SIGNIFICANT) + torch.special.ndtr(-z - _SIGNIFICANT)


def _shares(cells: Tensor, bins: int) -> Tensor:
    return torch.bincount(cells, minlength=bins).double() / len(cells)


def _divergence(p: Tensor, q: Tensor) -> float:
    entropy = torch.special.entr
    return float((entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum())
