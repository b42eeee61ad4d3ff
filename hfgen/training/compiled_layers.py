"""Layers in a form that torch.compile makes fast kernels of on a GPU. They compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

_FUSED_HEAD = 256
"""Widest head of flash attention; a wider one falls to a kernel that is slower than matrix products."""


def rewrite_layers(network: nn.Module) -> None:
    """Give, in place, the network's slow layers another forward pass when they are compiled, and only then.

    Weights and their names stay.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) and module.affine:
            _when_compiled(module, _group_norm)
        elif isinstance(module, Upsample2D) and module.interpolate and module.norm is None:
            _when_compiled(module, _double_and_convolve)
        elif isinstance(module, Attention) and module.to_q.weight.is_cuda and _head(module) > _FUSED_HEAD:
            _when_compiled(module, _attend)


def leave_out(networks: Mapping[str, nn.Module], weights: Iterable[Tensor]) -> None:
    """Let torch.compile leave out, in place, the layers that own these weights.

    A compiled network has one backward pass: a gradient of its last weight alone would take the whole of it.
    """
    wanted = {id(weight) for weight in weights}
    for network in networks.values():
        for module in network.modules():
            if wanted & {id(parameter) for parameter in module.parameters(recurse=False)}:
                module.forward = torch.compiler.disable(module.forward)


def _when_compiled(module: nn.Module, forward: Callable[..., Tensor]) -> None:
    module.forward = partial(_forward, module, forward, module.forward)


def _forward(
    module: nn.Module, compiled: Callable[..., Tensor], eager: Callable[..., Tensor], *args: Any, **kw: Any
) -> Tensor:
    return compiled(module, *args, **kw) if torch.compiler.is_compiling() else eager(*args, **kw)


def _group_norm(norm: nn.GroupNorm, images: Tensor) -> Tensor:
    """Normalise (N, C, ...) in groups of channels, by the moments of each channel, in float32.

    Groups cut through what is adjacent in memory with channels last; channels don't. The moments of a group are joined
    from its channels' without cancellation (Chan et al. 1979, equation 2.1).
    """
    if images.ndim == 2:
        return nn.GroupNorm.forward(norm, images)
    (count, channels), groups = images.shape[:2], norm.num_groups
    # As torch's own gives it.
    dtype = torch.float32 if torch.is_autocast_enabled(images.device.type) else images.dtype
    with torch.autocast(images.device.type, enabled=False):
        values = images.float()
        variances, means = torch.var_mean(values, dim=tuple(range(2, images.ndim)), correction=0)
        variances, means = variances.view(count, groups, -1), means.view(count, groups, -1)
        mean = means.mean(-1, keepdim=True)
        variance = variances.mean(-1, keepdim=True) + (means - mean).square().mean(-1, keepdim=True)
        scale = torch.rsqrt(variance + norm.eps) * norm.weight.view(1, groups, -1)
        shift = norm.bias.view(1, groups, -1) - mean * scale
        shape = (count, channels, *[1] * (images.ndim - 2))
        return (values * scale.view(shape) + shift.view(shape)).to(dtype)


def _double_and_convolve(upsample: Upsample2D, images: Tensor, output_size: Any = None) -> Tensor:
    """Diffusers' `Upsample2D`, whose gradient adds up each 2 x 2 pixels, where that of `interpolate` scatters."""
    if output_size is not None:
        return Upsample2D.forward(upsample, images, output_size)
    count, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1)[:, :, None, :, None]
    doubled = pixels.expand(count, height, 2, width, 2, channels).reshape(count, 2 * height, 2 * width, channels)
    doubled = doubled.permute(0, 3, 1, 2)
    if not upsample.use_conv:
        return doubled
    return upsample.conv(doubled) if upsample.name == "conv" else upsample.Conv2d_0(doubled)


def _attend(attention: Attention, hidden_states: Tensor, *args: Any, **kw: Any) -> Tensor:
    """Diffusers' attention by matrix products and a softmax."""
    return AttnProcessor()(attention, hidden_states, *args, **kw)


def _head(attention: Attention) -> int:
    return attention.inner_dim // attention.heads
