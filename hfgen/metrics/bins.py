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


def ndb(real: Tensor, fake: Tensor, bins: int = 100, *, seed: int) -> NDB:
    """Compare the shares of features (N, D) of real and (M, D) of generated images in k-means cells of the real ones.

    Each bin has a two-proportion z-test with the pooled share. A bin whose z is m on average is seen to differ with
    probability P(|N(m, 1)| > 1.96); see `number_variance` for the interval of their number.

    Raises:
        UserError: not two sets of one width, fewer than two bins, fewer than 10 real images or no different one for
            each, fewer than four generated ones, NaN or infinity.
    """
    if bins < 2:
        raise UserError(f"bins: {bins} can't differ; give 2 or more (100 is usual)")
    real, fake = check_feature_pair(real, fake, at_least=4)
    if len(real) < 10 * bins:
        raise UserError(
            f"bins: {bins} for {len(real)} real images leave too few in each; give at most {len(real) // 10}"
        )
    if (distinct := len(real.unique(dim=0))) < bins:
        raise UserError(f"bins: {bins} of only {distinct} different real images; use images that differ")
    cells = _cells(real, fake, bins, seed)
    jsd = debiased_estimate(lambda x, y: _divergence(_shares(x, bins), _shares(y, bins)), *cells, seed=seed)
    return NDB(_different(*cells, bins), jsd)


def _cells(real: Tensor, fake: Tensor, bins: int, seed: int) -> tuple[Tensor, Tensor]:
    from scipy.cluster.vq import kmeans2, vq

    deviation = real.std(0)
    scale = torch.where(deviation > 0, deviation, 1)
    first, second = ((x / scale).cpu().numpy() for x in (real, fake))
    with warnings.catch_warnings():
        # A cell that runs empty keeps its centre and doesn't differ.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, labels = kmeans2(first, bins, iter=_ITERATIONS, minit="++", rng=np.random.default_rng(seed))
    return torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(vq(second, centres)[0].astype(np.int64))


def _different(real: Tensor, fake: Tensor, bins: int) -> Estimate:
    p, q = _shares(real, bins), _shares(fake, bins)
    pooled = (p * len(real) + q * len(fake)) / (len(real) + len(fake))
    error = (pooled * (1 - pooled) * (1 / len(real) + 1 / len(fake))).sqrt()
    z = torch.where(error > 0, (p - q) / error, 0)
    count = float((z.abs() > _SIGNIFICANT).sum())
    # Of few bins, the variance grows with their number: all numbers that the count is 1.96 errors of theirs away from.
    ratio = number_variance(z, _seen) / count if count else 1.0
    skew = _SIGNIFICANT**2 * ratio / 2
    centre, reach = count + skew, (_SIGNIFICANT**2 * ratio * count + skew**2) ** 0.5
    low, high = max(centre - reach, 0.0), min(max(centre + reach, count), float(bins))
    return Estimate(count, min(low, count), high, min(len(real), len(fake)))


def _seen(z: Tensor) -> Tensor:
    """How likely |N(z, 1)| > 1.96 is."""
    return torch.special.ndtr(z - _SIGNIFICANT) + torch.special.ndtr(-z - _SIGNIFICANT)


def _shares(cells: Tensor, bins: int) -> Tensor:
    return torch.bincount(cells, minlength=bins).double() / len(cells)


def _divergence(p: Tensor, q: Tensor) -> float:
    entropy = torch.special.entr
    return float((entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum())
