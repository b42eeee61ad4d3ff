"""Fidelity and variety by nearest neighbours in feature space."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_features

_ROWS = 512
_NUMBERS = 2**22


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
    whole_real, whole_fake = (torch.ones(len(x), 1, dtype=torch.bool) for x in (real, fake))
    return PRDC(*prdc_of_subsets(real, fake, whole_real, whole_fake, k)[0].tolist())


def prdc_of_subsets(real: Tensor, fake: Tensor, real_members: Tensor, fake_members: Tensor, k: int) -> Tensor:
    """`prdc` of H pairs of subsets at once, from one pass over the distances.

    Args:
        real: (N, D) float64.
        fake: (M, D) float64.
        real_members: bool (N, H), which of them each subset holds; more than k, at random or all.
        fake_members: bool (M, H), likewise.
        k: Nearest neighbours.

    Returns:
        (H, 4) float64, the columns those of `PRDC`.
    """
    real_members, fake_members = real_members.to(real.device), fake_members.to(fake.device)
    covered, balls = _hits(real, _radii(real, real_members, k), fake, fake_members)
    _, recalled = _hits(fake, _radii(fake, fake_members, k), real, real_members)
    real_count, fake_count = real_members.sum(0).double(), fake_members.sum(0).double()
    columns = [
        (balls > 0).sum(0) / fake_count,
        (recalled > 0).sum(0) / real_count,
        balls.sum(0) / (k * fake_count),
        (covered > 0).sum(0) / real_count,
    ]
    return torch.stack(columns, dim=1).cpu()


def covered(real: Tensor, fake: Tensor, k: int = 5) -> Tensor:
    """Which of the real images (N, D) have one of the generated ones (M, D) nearer than their k-th neighbour, (N,).

    The mean is the coverage (Naeem 2020).

    Raises:
        UserError: see `prdc`.
    """
    real, fake = check_feature_pair(real, fake, at_least=k + 1)
    whole_real, whole_fake = (torch.ones(len(x), 1, dtype=torch.bool, device=x.device) for x in (real, fake))
    found, _ = _hits(real, _radii(real, whole_real, k), fake, whole_fake)
    return (found[:, 0] > 0).cpu()


def expected_coverage(n: int, m: int, k: int) -> float:
    """The mean coverage of `n` real by `m` generated images of the same distribution (Naeem 2020)."""
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (n - i) / (n + m - i)
    return 1 - missed


def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """The distance of each point (N, D) to the nearest of the others (M, D): (N,), 0 exactly for a copy."""
    best = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    nearest = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    columns = max(1, _NUMBERS // _ROWS)
    for rows in torch.arange(len(points), device=points.device).split(_ROWS):
        for first in range(0, len(others), columns):
            squares, found = _screen(points[rows], others[first : first + columns])[0].min(1)
            closer = squares < best[rows]
            best[rows] = torch.where(closer, squares, best[rows])
            nearest[rows] = torch.where(closer, found + first, nearest[rows])
    return (points - others[nearest]).square().sum(1).sqrt()


def own_nearest_distances(points: Tensor) -> Tensor:
    """The distance of each point (N, D) to the nearest of the other points: (N,).

    Raises:
        UserError: not (N, D), fewer than two rows, NaN or infinity.
    """
    points = check_features(points, "points", at_least=2)
    return _radii(points, torch.ones(len(points), 1, dtype=torch.bool, device=points.device), 1)[:, 0]


def _radii(points: Tensor, members: Tensor, k: int) -> Tensor:
    """The distance of each point (N, D) to its k-th nearest in each subset (N, H): (N, H), 0 for non-members.

    It is looked for among the nearest 4 k + 44 of the whole set. That a random half holds fewer than k of them has
    a probability below 1e-10.
    """
    # All of them members: no more than k are needed, and some for the rounding of the screening.
    count = min(len(points) - 1, k + 8 if members.all() else 4 * k + 44)
    radii = []
    for rows in torch.arange(len(points), device=points.device).split(_ROWS):
        squares, _ = _screen(points[rows], points)
        squares[torch.arange(len(rows)), rows] = torch.inf  # a point isn't its own neighbour
        nearest = squares.topk(count, largest=False).indices
        distances = (points[rows, None] - points[nearest]).square().sum(2).sqrt()
        distances, order = distances.sort(1)
        place = (members[nearest.gather(1, order)].cumsum(1) < k).sum(1).clamp(max=count - 1)
        radii.append(distances.gather(1, place))
    return torch.cat(radii) * members


def _hits(centres: Tensor, radii: Tensor, points: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Points strictly inside balls, in each subset: how many by ball (N, H), and in how many by point (M, H)."""
    by_centre, by_point = torch.zeros_like(radii, dtype=torch.int32), torch.zeros_like(members, dtype=torch.int32)
    reach = radii.amax(1)
    block = max(1, _NUMBERS // max(radii.shape[1], points.shape[1]))
    for first in range(0, len(centres), _ROWS):
        rows = slice(first, first + _ROWS)
        squares, slack = _screen(centres[rows], points)
        near = squares <= (reach[rows].square() + slack)[:, None]
        for pairs in near.nonzero().split(block):
            i, j = pairs[:, 0] + first, pairs[:, 1]
            distances = (centres[i] - points[j]).square().sum(1).sqrt()
            inside = ((distances[:, None] < radii[i]) & members[j]).int()
            by_centre.scatter_add_(0, i[:, None].expand_as(inside), inside)
            by_point.scatter_add_(0, j[:, None].expand_as(inside), inside)
    return by_centre, by_point


def _screen(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (N, M) as a product of matrices, and how far rounding may have moved a row's (N,).

    For choosing candidates. They are then measured by differences, so that equal features are at distance 0 exactly
    and ties stay ties.
    """
    centre = y.mean(0)  # far from 0, squares would lose the digits that distances have
    x, y = x - centre, y - centre
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    squares = torch.addmm(y_squares.expand(len(x), -1), x, y.T, alpha=-2).add_(x_squares[:, None])
    return squares, 1e-12 * (x_squares + y_squares.max())
