"""Distances between two feature sets, as pure formulae in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_features, check_finite
from hfgen.metrics.placement import back

_ROWS = 512


class MomentsAccumulator:
    """Mean and covariance of features that come in batches, in any number of processes.

    Batches are joined by their centred moments (Chan et al. 1979): whatever the split, the result is that of the
    whole set to float64 rounding. D (D + 1) + 1 numbers are kept. The other set metrics compare single images, hence
    need the features kept: 64 numbers an image with the embedded extractor.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, features: Tensor) -> MomentsAccumulator:
        """Add features (N, D), N at least 1.

        Raises:
            UserError: not (N, D), empty, NaN, infinity, or another D than before.
        """
        features = check_features(features, "features", at_least=1)
        mean = features.mean(0)
        centred = features - mean
        self._join(len(features), mean, centred.T @ centred)
        return self

    def merge(self, other: MomentsAccumulator) -> MomentsAccumulator:
        """Add what another process has seen.

        Raises:
            UserError: features of another D.
        """
        if other.count:
            self._join(other.count, other._mean, other._scatter)
        return self

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and unbiased covariance (D, D), float64, as `moments`.

        Raises:
            UserError: fewer than two rows so far.
        """
        if self.count < 2:
            raise UserError(f"features: {self.count} images are too few; give at least 2")
        return self._mean.clone(), self._scatter / (self.count - 1)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self.count == 0:
            self.count, self._mean, self._scatter = count, mean.clone(), scatter.clone()
            return
        if mean.shape != self._mean.shape:
            raise UserError(f"features: {len(mean)} columns after {len(self._mean)}; use one extractor for all")
        total, step = self.count + count, mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self._mean = self._mean + step * (count / total)
        self.count = total


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) -> mean (D,) and unbiased covariance (D, D), float64.

    Raises:
        UserError: not (N, D), fewer than two rows, NaN or infinity.
    """
    return MomentsAccumulator().update(check_features(features, "features", at_least=2)).result()


def perceptual_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - the cosine similarity of paired features: two (N, D) -> float64 (N,), in [0, 2], 0 for the same direction.

    Of one global feature vector per image, unlike LPIPS, which compares place by place with learnt weights.

    Raises:
        UserError: not two sets of one shape, an empty set, features that are all 0, NaN or infinity.
    """
    x, y = check_feature_pair(x, y, at_least=1, names=("x", "y"))
    if len(x) != len(y):
        raise UserError(f"y: {len(y)} images for {len(x)} in x; give pairs")
    lengths = x.norm(dim=1) * y.norm(dim=1)
    if (lengths == 0).any():
        raise UserError("x or y: an image's features are all 0, which has no direction; use another extractor")
    return back(1 - ((x * y).sum(1) / lengths).clamp(-1, 1))


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


def kernel_chance(x: Tensor, y: Tensor) -> float:
    """The variance of `kernel_distance` that no single image explains, all of it for equal distributions.

    Of (N, D) and (M, D) float64: the second-order term of Hoeffding's decomposition.
    """
    n, m = len(x), len(y)
    own = 2 * kernel_spread(x, x) / n**2 + 2 * kernel_spread(y, y) / m**2
    return own + 4 * kernel_spread(x, y) / (n * m)


def kernel_spread(x: Tensor, y: Tensor) -> float:
    """The mean square of the kernel between two sets, or different images of one, less what each image has on average.

    k - mean of row - mean of column + mean has this mean square, since the means are orthogonal to it.
    """
    scaled = y.T / y.shape[1]
    return centred_square(lambda rows: (x[rows] @ scaled).add_(1).pow_(3), len(x), len(y), own=x is y)


def centred_square(kernels: Callable[[slice], Tensor], n: int, m: int, *, own: bool) -> float:
    """The same of any kernel, `kernels` giving rows of its matrix (n, m); `own`: without its diagonal."""
    columns, rows, squares = torch.zeros(m, dtype=torch.float64), [], 0.0
    for first in range(0, n, _ROWS):
        block = kernels(slice(first, first + _ROWS))
        if own:
            block.diagonal(first).zero_()
        rows.append(block.sum(1))
        columns = columns.to(block.device) + block.sum(0)
        squares += float(block.square().sum())
    row_means, column_means = torch.cat(rows) / (m - own), columns / (n - own)
    means = row_means.square().mean() + column_means.square().mean() - row_means.mean().square()
    return max(squares / (n * (m - own)) - float(means), 0.0)


def kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x.y / D + 1)^3 of each x, summed over all y: (N, D), (M, D) -> (N,)."""
    scaled = y.T / y.shape[1]
    return torch.cat([(rows @ scaled).add_(1).pow_(3).sum(1) for rows in x.split(_ROWS)])
