"""Perceptual distance: images compared by the features of a network instead of by their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_distance(features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Squared distance of features of unit length, averaged over places and layers, one value an image (N,), in [0, 4].

    LPIPS with equal weights instead of learnt ones (Zhang et al., 1801.03924, equation 1), in fp32.

    Args:
        features: Per layer, the features (N, D, ...) of the images, channels second.
        others: Those of the images that they are compared with, pair by pair.
    """
    return torch.stack([_layer(one, other) for one, other in zip(features, others, strict=True)]).mean(0)


def _layer(one: Tensor, other: Tensor) -> Tensor:
    with torch.autocast(one.device.type, enabled=False):
        return (_unit(one.float()) - _unit(other.float())).square().sum(1).flatten(1).mean(1)


def _unit(features: Tensor) -> Tensor:
    # Inside the root: where features are all zero, the gradient of a norm is non-finite.
    return features * features.square().sum(1, keepdim=True).add(1e-10).rsqrt()
