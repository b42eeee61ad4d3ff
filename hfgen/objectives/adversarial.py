"""Adversarial losses and the penalties that keep the discriminator smooth."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


def relativistic_loss(better: Tensor, worse: Tensor) -> Tensor:
    """softplus(worse - better), averaged: `better` shall score higher than its partner `worse`, both (N,).

    The discriminator calls it with (real, fake), the generator with (fake, real): every real image is
    compared with a fake, which leaves no region of the data without gradient (RpGAN; Jolicoeur-Martineau,
    1807.00734; Huang et al., 2501.05441, equation 2).
    """
    return softplus(worse.float() - better.float()).mean()


def logistic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean softplus(-real) + mean softplus(fake): log 2 for a blind discriminator.

    The cross-entropy of Goodfellow et al. (1406.2661), halved as in pix2pix (Isola et al., 1611.07004, section 3.3).
    Scores of any shape; the generator minimises mean softplus(-fake).
    """
    return 0.5 * (softplus(-real.float()).mean() + softplus(fake.float()).mean())


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean relu(1 - real) + mean relu(1 + fake): 1 for a blind discriminator, 0 beyond the margins.

    Scores of any shape; the generator minimises -mean(fake) (Lim and Ye, 1705.02894; half as in 2012.09841's code).
    """
    return 0.5 * (relu(1 - real.float()).mean() + relu(1 + fake.float()).mean())


def adaptive_weight(nll: Tensor, adversarial: Tensor, last_layer: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """|grad nll| / (|grad adversarial| + 1e-4) at the decoder's last layer: the factor that balances the two.

    Esser et al., 2012.09841, equation 7, with the constant and the upper bound 1e4 of its code; in fp32, without
    gradient. `gather` joins gradients (1, ...) over the processes: their means' norms are those of the whole batch.
    """
    with torch.autocast(last_layer.device.type, enabled=False):
        gradients = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (nll, adversarial)]
        one, other = (gather(gradient[None].float()).mean(0).norm() for gradient in gradients)
        return (one / (other + 1e-4)).clamp_max(1e4)


def gradient_penalty(discriminator: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient with respect to its inputs (N, ...), in fp32.

    R1 on real images, R2 on fakes (Mescheder et al., 1801.04406, equation 9, without its factor gamma / 2).
    """
    # Compiled modules have no second derivative.
    eager = torch.compiler.set_stance("force_eager")
    with eager, torch.autocast(inputs[0].device.type, enabled=False), torch.enable_grad():
        leaves = [tensor.detach().float().requires_grad_(True) for tensor in inputs]
        scores = discriminator(*leaves)
        gradients = torch.autograd.grad(scores.sum(), leaves, create_graph=True)
        return torch.stack([gradient.square().flatten(1).sum(1) for gradient in gradients]).sum(0).mean()


def discriminator_warning(loss: float, margin: float) -> str | None:
    """What is wrong with a discriminator of this mean loss and mean score(real) - score(fake), or None.

    The bounds are rules of thumb: below a loss of .02 the generator's gradient has all but vanished; a margin
    below .001 at a loss of log 2 or more says that the scores tell nothing apart.
    """
    if loss < 0.02:
        return f"the discriminator tells nearly every image apart (loss {loss:.3f}): the generator learns little"
    if abs(margin) < 1e-3 and loss > math.log(2) - 1e-3:
        return f"the discriminator tells nothing apart (loss {loss:.3f}, margin {margin:.4f})"
    return None
