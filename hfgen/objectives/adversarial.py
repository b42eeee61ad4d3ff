"""Adversarial losses and the penalties that keep the discriminator smooth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus


def relativistic_loss(better: Tensor, worse: Tensor) -> Tensor:
    """softplus(worse - better), averaged: `better` should score higher than its partner `worse`, both (N,).

    The discriminator calls it with (real, fake), the generator with (fake, real): every real image is
    compared with a fake, which leaves no region of the data without gradient (RpGAN; Jolicoeur-Martineau,
    1807.00734; Huang et al., 2501.05441, equation 2).
    """
    return softplus(worse.float() - better.float()).mean()


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean relu(1 - real) + mean relu(1 + fake): 1 where all scores are 0, 0 beyond the margins.

    Scores of any shape; the generator minimises -mean(fake) (Lim and Ye, 1705.02894; half as in 2012.09841's code).
    """
    return 0.5 * (relu(1 - real.float()).mean() + relu(1 + fake.float()).mean())


def nonsaturating_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean softplus(-real) + mean softplus(fake): 2 log 2 where all scores are 0.

    Scores of any shape, as logits of "real"; the generator minimises mean softplus(-fake) (Goodfellow et al.,
    1406.2661, section 3).
    """
    return softplus(-real.float()).mean() + softplus(fake.float()).mean()


class AdversarialLoss(NamedTuple):
    """Both sides of an adversarial loss: (scores of real images, of fakes) -> what is minimised (scalar).

    `paired` says whether the generator's side looks at the real ones.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


ADVERSARIAL_LOSSES = {
    "relativistic": AdversarialLoss(relativistic_loss, lambda real, fake: relativistic_loss(fake, real), paired=True),
    "hinge": AdversarialLoss(hinge_loss, lambda real, fake: -fake.float().mean()),
    "nonsaturating": AdversarialLoss(nonsaturating_loss, lambda real, fake: softplus(-fake.float()).mean()),
}


class ScoreAverages(nn.Module):
    """Moving averages of the discriminator's mean scores, which LeCam's penalty is anchored at."""

    real: Tensor
    fake: Tensor
    updates: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("real", "fake", "updates"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, real: Tensor, fake: Tensor, decay: float) -> None:
        """Move to the scores of the whole batch, over all processes; plain means until `decay` weighs more."""
        self.updates += 1
        weight = (1 / self.updates).clamp_min(1 - decay)
        self.real.lerp_(real.float().mean(), weight)
        self.fake.lerp_(fake.float().mean(), weight)


def lecam_penalty(real: Tensor, fake: Tensor, averages: ScoreAverages) -> Tensor:
    """Mean (real - averages.fake)^2 + mean (fake - averages.real)^2, scores of any shape.

    It keeps a discriminator of few images from separating the two further and further (Tseng et al., 2104.03310,
    equation 4).
    """
    return (real.float() - averages.fake).square().mean() + (fake.float() - averages.real).square().mean()


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


def lazy(weight: float, every: int, index: int) -> float:
    """The weight of a penalty at step `index` that comes at each `every`-th one, counted as often (1912.04958)."""
    return 0.0 if index % every else every * weight


def discriminator_loss(
    loss: AdversarialLoss,
    scores: tuple[Tensor, Tensor],
    gamma: float = 0.0,
    discriminator: Callable[..., Tensor] | None = None,
    inputs: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = ((), ()),
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a discriminator minimises, with gamma / 2 (R1 + R2), and its terms for the log.

    `scores` are of real images and of fakes; `inputs` what the `discriminator` is smooth around, real and fake.
    """
    total = loss.discriminator(*scores)
    real, fake = scores
    terms = {"loss": total.detach(), "margin": (real.float() - fake.float()).mean().detach()}
    if not gamma or discriminator is None:
        return total, terms
    r1, r2 = (gradient_penalty(discriminator, *side) for side in inputs)
    return total + gamma / 2 * (r1 + r2), {**terms, "r1": r1.detach(), "r2": r2.detach()}


def discriminator_warning(loss: float, margin: float) -> str | None:
    """What is wrong with a discriminator of this mean loss and mean score(real) - score(fake), or None.

    The bounds are rules of thumb: below a loss of .02 the generator's gradient has all but vanished; a margin
    below .001 at a loss of log 2 or more says that the scores separate nothing.
    """
    if loss < 0.02:
        return f"the discriminator recognises nearly every image (loss {loss:.3f}): the generator learns little"
    if abs(margin) < 1e-3 and loss > math.log(2) - 1e-3:
        return f"the discriminator doesn't tell real from generated images (loss {loss:.3f}, margin {margin:.4f})"
    return None
