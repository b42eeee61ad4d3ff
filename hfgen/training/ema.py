"""Exponential moving average of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from hfgen.training.sharding import share


def make_averages(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of the networks that will hold their averages: frozen, in evaluation mode."""
    return {name: copy.deepcopy(network).requires_grad_(False).eval() for name, network in networks.items()}


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, images: int, images_seen: int, half_life: int) -> None:
    """Move the average towards the network after a step of `images`.

    The weight halves every `half_life` images, and early on every tenth of the images seen, so that the
    first random weights don't linger (Karras et al., 2206.00364). Buffers are copied.
    """
    effective = min(half_life, max(images_seen, 1) / 10)
    weight = 1 - 0.5 ** (images / effective)
    torch._foreach_lerp_([share(p) for p in average.parameters()], [share(p) for p in network.parameters()], weight)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.copy_(new)
