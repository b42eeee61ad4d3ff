"""Whether a generator copies its training images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair, check_features
from hfgen.metrics.intervals import Estimate, bootstrap_ratio
from hfgen.metrics.neighbours import nearest_distances


def memorisation(
    training_features: Iterable[Tensor], held_out_features: Tensor, sample_features: Tensor, *, seed: int
) -> Estimate:
    """`copying` of the distances of samples (M, D) and held-out images (H, D) to the training images.

    `training_features`: of all images that the generator was trained on, in parts (N, D), of which one at a time is
    held: a model copies any of them, and a part of them finds no copies of the others.

    Raises:
        UserError: as `training_distances` and `copying`.
    """
    held_out = check_features(held_out_features, "held_out_features", at_least=2)
    samples = check_features(sample_features, "sample_features", at_least=2)
    if held_out.shape[1] != samples.shape[1]:
        widths = f"{samples.shape[1]} features against {held_out.shape[1]} of held_out_features"
        raise UserError(f"sample_features: {widths}; use one extractor for both")
    distances = training_distances(training_features, torch.cat([held_out, samples]))
    return copying(distances[: len(held_out)], distances[len(held_out) :], seed=seed)


def training_distances(training_features: Iterable[Tensor], features: Tensor) -> Tensor:
    """The distance of each image (M, D) to the nearest training image: float64 (M,), 0 exactly for a copy.

    Raises:
        UserError: sets of different widths, no training images, NaN or infinity.
    """
    best: Tensor | None = None
    for part in training_features:
        training, points = check_feature_pair(part, features, at_least=1, names=("training_features", "features"))
        distances = nearest_distances(points, training)
        best = distances if best is None else torch.minimum(best, distances)
    if best is None:
        raise UserError("training_features: there are none; give all images that the generator was trained on")
    return best


def copying(held_out: Tensor, samples: Tensor, *, seed: int) -> Estimate:
    """How far samples (M,) are from their nearest training images, relative to new real images (H,).

    The ratio of the mean distances: 1 = as far as real images that weren't trained on, near 0 = copies, above 1 = off
    the data (read it beside precision). A generator that copies some images and draws others badly can have any value.
    The training set is taken as given; the interval is for samples and held-out images. After the three-sample test of
    Meehan et al., 2004.05675, whose distances it compares.

    Raises:
        UserError: fewer than two distances, NaN or infinity, or held-out images that all are training images.
    """
    if not held_out.any():
        raise UserError(
            "held_out_features: all are among the training features; hold out images that weren't trained on"
        )
    return bootstrap_ratio(samples, held_out, seed=seed, paired=False)
