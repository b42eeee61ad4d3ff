"""Adversarial losses and the penalties that keep the discriminator smooth."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus


def relativistic_loss(better: Tensor, worse: Tensor) -> Tensor:
    """softplus(worse - better), averaged: `better` shall score higher than its partner `worse`, both (N,).

    The discriminator calls it with (real, fake), the generator with (fake, real): every real image is
    compared with a fake, which leaves no region of the data without gradient (RpGAN; Jolicoeur-Martineau,
    1807.00734; Huang et al., 2501.05441, equation 2).
    """
    return softplus(worse.float() - better.float()).mean()


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient with respect to the images, in fp32.

    R1 on real images, R2 on fakes (Mescheder et al., 1801.04406, equation 9, without its factor gamma / 2).
    """
    with torch.autocast(images.device.type, enabled=False), torch.enable_grad():
        images = images.detach().float().requires_grad_(True)
        scores = discriminator(images)
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()
