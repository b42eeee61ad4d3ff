"""Divergence of the posterior from the prior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kl_per_channel(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats, by image and channel: (N, C, ...) -> (N, C).

    Kingma and Welling, 1312.6114, appendix B.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(2).sum(2)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """`kl_per_channel`, summed over the channels: nats per image (N,)."""
    return kl_per_channel(mean, log_variance).sum(1)


def kl_above(kl: Tensor, floor: float, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """Free bits: the sum over channels of max(`floor`, mean KL), in nats (Kingma et al., 1606.04934, appendix C.8).

    A channel that tells less than `floor` about an image, on average over the batch, costs the same at any KL: it has
    no gradient, so that nothing drives it to zero. `kl` is (n, C); `gather` joins it over the processes, whose
    values average to the whole batch's.
    """
    free = gather(kl.detach()).mean(0) <= floor
    return torch.where(free, floor, kl.mean(0)).sum()
