"""Fidelity and variety by nearest neighbours in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair

_ROWS = 512


class PRDC(NamedTuple):
    """Precision and recall (Kynkaanniemi 2019), density and coverage (Naeem 2020).

    Density is at least 0 and 1 on average for equal distributions; the others are in [0, 1]. Precision and
    recall of equal distributions are below 1 and fall with the width: read them beside real against real.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Compare features (N, D) of real images with (M, D) of generated ones; `k` nearest neighbours.

    Raises:
        UserError: not two sets of one width, k < 1, a set of k images or fewer, NaN or infinity.
    """
    if k < 1:
        raise UserError(f"k: {k} is not a number of neighbours; use 1 or more (5 is usual)")
    real, fake = check_feature_pair(real, fake, at_least=k + 1)
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    recalled, covered = 0, 0
    for rows, radii in zip(real.split(_ROWS), real_radii.split(_ROWS), strict=True):
        distances = _distances(rows, fake)
        inside = distances < radii[:, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((distances < fake_radii).any(1).sum())
    return PRDC(
        precision=float((balls > 0).double().mean()),
        recall=recalled / len(real),
        density=float(balls.double().mean()) / k,
        coverage=covered / len(real),
    )


def expected_coverage(n: int, m: int, k: int) -> float:
    """The mean coverage of `n` real by `m` generated images of the same distribution (Naeem 2020)."""
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (n - i) / (n + m - i)
    return 1 - missed


def _radii(points: Tensor, k: int) -> Tensor:
    # The nearest of the k + 1 is the point itself.
    nearest = [_distances(rows, points).topk(k + 1, largest=False).values for rows in points.split(_ROWS)]
    return torch.cat(nearest)[:, -1]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # Differences, not the expanded square: equal features must be at distance 0 exactly.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
