"""Reconstruction losses, one value an image (N,): what the decoder assumes about pixels, given the latent."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

# Pixels lie 2/255 apart: rounding to them already has the variance of a uniform density that wide.
LEVEL = 2 / 255
FINEST_VARIANCE = LEVEL**2 / 12


def gaussian_nll(images: Tensor, means: Tensor, variance: float | Tensor) -> Tensor:
    """-log N(images; means, variance I) in nats per image: what an L2 loss assumes about the image.

    Pixels are independent given the latent (Kingma and Welling, 1312.6114, appendix C.2). A gradient flows to
    `variance` where it is a tensor (scalar) that asks for it.
    """
    squares = (images - means.float()).square().flatten(1)
    log_variance = variance.log() if isinstance(variance, Tensor) else math.log(variance)
    return 0.5 * (squares / variance + math.log(2 * math.pi) + log_variance).sum(1)


def optimal_variance(images: Tensor, means: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """The variance (scalar, without gradient) at which the whole batch's `gaussian_nll` is lowest: its MSE.

    `gather` joins (n,) over the processes. At the optimum the nll has no slope in the variance, so that the means'
    gradient is that of sigma-VAE's D/2 log MSE (Rybkin et al., 2006.13202). Never finer than rounding.
    """
    errors = (images - means.detach().float()).square().flatten(1).mean(1)
    return gather(errors).mean().clamp_min(FINEST_VARIANCE)


class LearnedVariance(nn.Module):
    """A variance that is trained beside the networks, as latent diffusion's autoencoders have it (2112.10752).

    Its logarithm is `pace` times the parameter: Adam moves every parameter by about its learning rate, which is too
    little a step for a logarithm. The parameter has shape (1,), since FSDP2 shares no scalars.
    """

    pace = 10.0

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full((1,), math.log(initial) / self.pace))

    def forward(self) -> Tensor:
        """The variance, a scalar."""
        return (self.pace * self.log_variance.float()).exp().squeeze(0)


def laplace_nll(images: Tensor, medians: Tensor, variance: float) -> Tensor:
    """-log Laplace(images; medians, variance) in nats per image: what an L1 loss assumes about the image.

    Its scale is sqrt(variance / 2), so that it and `gaussian_nll` grant the same error at the same variance.
    """
    scale = math.sqrt(variance / 2)
    return ((images - medians.float()).abs().flatten(1) / scale + math.log(2 * scale)).sum(1)


def logistic_nll(images: Tensor, means: Tensor, variance: float) -> Tensor:
    """-log P(images) in nats per image, under a logistic density of this variance, integrated over each level.

    The 256 levels are those of uint8 in [-1, 1]; the outer two take the tails, so that the masses sum to 1 (Salimans
    et al., 1701.05517, equation 2, with one component as in 1606.04934). Masses have log(255 / 2) nats per pixel
    more than the densities of the other likelihoods.
    """
    scale = math.sqrt(3 * variance) / math.pi
    centred = images - means.float()
    upper, lower = (centred + LEVEL / 2) / scale, (centred - LEVEL / 2) / scale
    # log(s(u) - s(l)) = log s(u) + log s(-l) + log(1 - exp(l - u)), with s the sigmoid: nothing cancels.
    below, above = logsigmoid(upper), logsigmoid(-lower)
    inner = below + above + math.log(-math.expm1(-LEVEL / scale))
    log_mass = torch.where(images < -1 + LEVEL / 2, below, torch.where(images > 1 - LEVEL / 2, above, inner))
    return -log_mass.flatten(1).sum(1)
