"""Exponential moving average of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from hfgen.training.fsdp import local


def make_averages(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of the networks that will hold their averages: frozen, in evaluation mode."""
    return {name: copy.deepcopy(network).requires_grad_(False).eval() for name, network in networks.items()}


class EMA:
    """Moves an average towards its network; it lists their tensors once, since to walk the modules takes milliseconds.

    Args:
        average: What `make_averages` made of the network; sharded like it, if at all.
        network: What is trained.
    """

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        self._parameters = [[local(p) for p in module.parameters()] for module in (average, network)]
        self._buffers = list(zip(average.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self, images: int, images_seen: int, half_life: int) -> None:
        """Update the average after a step of `images` images.

        The weight halves every `half_life` images, and early on every tenth of the images seen, so that the
        first random weights soon have no part in it (Karras et al., 2206.00364). Buffers are copied.
        """
        effective = min(half_life, max(images_seen, 1) / 10)
        average, network = self._parameters
        torch._foreach_lerp_(average, network, 1 - 0.5 ** (images / effective))
        for old, new in self._buffers:
            old.copy_(new)
