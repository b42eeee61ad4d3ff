"""How many different images a set holds, without a reference set."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hfgen.metrics.checks import check_features
from hfgen.metrics.intervals import Estimate, half_memberships, normal_estimate, smooth_error


def vendi_score(features: Tensor) -> float:
    """The exponential of the entropy of the similarity matrix's eigenvalues (Friedman & Dieng, 2210.02410).

    Similarities are the features' cosines. 1 where all rows of `features` (N, D) are alike; at most min(N, D), where
    they are orthogonal. It grows with N: compare sets of one size.

    Raises:
        UserError: not (N, D), empty, NaN or infinity.
    """
    rows = normalize(check_features(features, "features", at_least=1), dim=1)
    # The N x N matrix has the same eigenvalues, and zeros.
    values = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp_min(0)
    return float(torch.special.entr(values).sum().exp())


def vendi_interval(features: Tensor, *, seed: int) -> Estimate:
    """`vendi_score` with the interval of sets of as many images, by its spread over halves.

    Raises:
        UserError: as `vendi_score`.
    """
    features = check_features(features, "features", at_least=4)
    halves = half_memberships(len(features), torch.Generator().manual_seed(seed)).T
    error = smooth_error(torch.tensor([vendi_score(features[half]) for half in halves]))
    found, most = normal_estimate(vendi_score(features), error, len(features)), float(min(features.shape))
    return Estimate(found.value, max(found.low, 1.0), min(found.high, most), found.n)
