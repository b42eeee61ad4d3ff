"""Reconstruction losses, one value an image (N,)."""

from __future__ import annotations

import math

from torch import Tensor


def gaussian_nll(images: Tensor, means: Tensor, variance: float) -> Tensor:
    """-log N(images; means, variance I) in nats per image: what an L2 loss assumes about the image.

    Pixels are independent given the latent (Kingma and Welling, 1312.6114, appendix C.2).
    """
    squares = (images - means.float()).square().flatten(1)
    return 0.5 * (squares / variance + math.log(2 * math.pi * variance)).sum(1)


def laplace_nll(images: Tensor, medians: Tensor, variance: float) -> Tensor:
    """-log Laplace(images; medians, variance) in nats per image: what an L1 loss assumes about the image.

    Its scale is sqrt(variance / 2), so that it and `gaussian_nll` grant the same error at the same variance.
    """
    scale = math.sqrt(variance / 2)
    return ((images - medians.float()).abs().flatten(1) / scale + math.log(2 * scale)).sum(1)
