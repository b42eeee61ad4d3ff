"""Whether a generator copies its training images."""

from __future__ import annotations

from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair
from hfgen.metrics.intervals import Estimate, bootstrap_ratio
from hfgen.metrics.neighbours import nearest_distances


def memorisation(
    training_features: Tensor, held_out_features: Tensor, sample_features: Tensor, *, seed: int
) -> Estimate:
    """How far samples are from their nearest training images, relative to real images that weren't trained on.

    The mean distance of samples (M, D) over that of held-out images (H, D), to training images (N, D): 1 = as far as
    new real images, near 0 = copies, above 1 = off the data (read it beside precision). A generator that copies some
    images and draws others badly can have any value. The training set is taken as given; the interval is for samples
    and held-out images. After the three-sample test of Meehan et al., 2004.05675, whose distances it compares.

    Raises:
        UserError: sets of different widths or fewer than two rows, NaN or infinity, or
            held-out images that all are training images.
    """
    training, held_out = check_feature_pair(
        training_features, held_out_features, at_least=2, names=("training_features", "held_out_features")
    )
    _, samples = check_feature_pair(
        training, sample_features, at_least=2, names=("training_features", "sample_features")
    )
    expected = nearest_distances(held_out, training)
    if not expected.any():
        raise UserError(
            "held_out_features: all are among the training features; hold out images that weren't trained on"
        )
    return bootstrap_ratio(nearest_distances(samples, training), expected, seed=seed, paired=False)
