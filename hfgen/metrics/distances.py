"""Distances between two feature sets, as pure formulae in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_features, check_finite

_ROWS = 512


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) -> mean (D,) and unbiased covariance (D, D), float64.

    Raises:
        UserError: not (N, D), fewer than two rows, NaN or infinity.
    """
    features = check_features(features, "features", at_least=2)
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared 2-Wasserstein distance between two Gaussians (Dowson & Landau 1982; Heusel 2017).

    The trace of (cov1 cov2)^(1/2) is that of the symmetric (cov1^(1/2) cov2 cov1^(1/2))^(1/2): eigenvalues
    of symmetric matrices only. Its estimate from moments is biased upwards; see `frechet_distance_interval`.

    Raises:
        UserError: shapes that aren't (D,) and (D, D) of one D, NaN or infinity.
    """
    width = mean1.numel()
    for name, value, shape in (
        ("mean1", mean1, (width,)),
        ("cov1", cov1, (width, width)),
        ("mean2", mean2, (width,)),
        ("cov2", cov2, (width, width)),
    ):
        if value.shape != shape or width == 0:
            raise UserError(f"{name}: shape {tuple(value.shape)}; give {shape}, from one extractor")
        check_finite(value, name)
    cov1, cov2 = cov1.double(), cov2.double()
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1.double() - mean2.double()).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return max(float(distance), 0.0)


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 (KID, Binkowski 2018), over all pairs.

    (N, D) and (M, D) -> a number that is 0 on average, hence sometimes negative, for equal distributions.

    Raises:
        UserError: not two sets of one width, fewer than two rows, NaN or infinity.
    """
    x, y = check_feature_pair(x, y, at_least=2, names=("x", "y"))
    return float(kernel_excess(x, y).mean() + kernel_excess(y, x).mean())


def kernel_excess(x: Tensor, y: Tensor) -> Tensor:
    """How much likelier each x is to its own set than to y: mean kernel to the others of x minus to y, (N,).

    The squared MMD is the mean of it over x, plus the same with x and y exchanged.
    """
    own = (kernel_sums(x, x) - (x.square().mean(1) + 1).pow(3)) / (len(x) - 1)
    return own - kernel_sums(x, y) / len(y)


def kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x.y / D + 1)^3 of each x, summed over all y: (N, D), (M, D) -> (N,)."""
    scaled = y.T / y.shape[1]
    return torch.cat([(rows @ scaled).add_(1).pow_(3).sum(1) for rows in x.split(_ROWS)])
