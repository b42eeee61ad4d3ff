"""Latents as a diffusion model sees them: moved and scaled as the pipelines of diffusers do with what a config says."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hfgen.autoencoders.network_calls import setting


class Statistics(NamedTuple):
    """A latent z is seen as (z - `shift`) * `scale`.

    Attributes:
        shift: (c, p, p), repeated over the grid.
        scale: Alike.
    """

    shift: Tensor
    scale: Tensor

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents (N, c, h, w) as a diffusion model sees them."""
        return (latents - self._over(self.shift, latents)) * self._over(self.scale, latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Back."""
        return latents / self._over(self.scale, latents) + self._over(self.shift, latents)

    def _over(self, values: Tensor, latents: Tensor) -> Tensor:
        """(c, p, p) -> (c, h, w)."""
        height, width = latents.shape[2:]
        patch = values.shape[-1]
        repeated = values.to(latents).repeat(1, -(-height // patch), -(-width // patch))
        return repeated[:, :height, :width]


def read_statistics(network: Any, channels: int) -> Statistics:
    """What a network's config or buffers say of its latents of so many channels; nothing said is 0 and 1.

    In diffusers' pipelines: (z - shift_factor) * scaling_factor, (z - latents_mean) * scaling_factor / latents_std,
    and, where the network has a batch norm of patches of its latents, by the statistics of that.
    """
    zeros, ones = torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1)
    if hasattr(network, "_normalize_latents"):
        return Statistics(zeros, ones)  # Its encode has done it.
    patches = getattr(network, "bn", None)
    if isinstance(patches, nn.BatchNorm2d) and patches.running_mean is not None and patches.running_var is not None:
        side = math.isqrt(patches.num_features // channels)
        deviation = (patches.running_var + (setting(network, "batch_norm_eps") or patches.eps)).sqrt()
        shape = (channels, side, side)
        return Statistics(patches.running_mean.reshape(shape).clone(), 1 / deviation.reshape(shape))
    scale = ones * float(_of(network, "scaling_factor", 1.0))
    mean, spread = (_by_channel(network, name, channels) for name in ("latents_mean", "latents_std"))
    if mean is None or spread is None:
        return Statistics(zeros + float(_of(network, "shift_factor", 0.0)), scale)
    return Statistics(mean, scale / spread)


def _of(network: Any, name: str, default: Any) -> Any:
    value = setting(network, name)
    return default if value is None else value


def _by_channel(network: Any, name: str, channels: int) -> Tensor | None:
    """(c, 1, 1); of what is said frame by frame the first."""
    value = setting(network, name)
    value = dict(network.named_buffers(recurse=False)).get(name) if value is None else value
    if value is None:
        return None
    values = torch.as_tensor(value, dtype=torch.float32).flatten()
    return (
        values.reshape(channels, -1)[:, :1, None] if values.numel() >= channels else values[:1].expand(channels, 1, 1)
    )


def _first_frame(values: Tensor, channels: int) -> Tensor:
    return values.reshape(channels, -1)[:, :1, None]
