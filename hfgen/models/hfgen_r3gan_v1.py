"""A GAN's generator without normalisation, in the spirit of R3GAN (Huang et al., 2501.05441, section 4).

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

_GROUP = 16
"""Channels that a grouped convolution sees."""


class InvertedBottleneck(nn.Module):
    """Residual block: 1x1 to twice the width, grouped 3x3, 1x1 back; nothing is normalised.

    The fix-up initialisation keeps its place: `depth` such blocks in a row start as the identity, and their updates
    stay bounded together (Zhang et al., 1901.09321, section 3: the last layer is 0, the m - 1 others shrink by
    depth^(-1 / (2m - 2)), here m = 3).
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        inner = 2 * width
        self.expand = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner // _GROUP)
        self.reduce = nn.Conv2d(inner, width, 1, bias=False)
        for convolution in (self.expand, self.mix):
            nn.init.kaiming_normal_(convolution.weight, a=0.2)
            convolution.weight.data.mul_(depth**-0.25)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.reduce.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.reduce(leaky_relu(self.mix(leaky_relu(self.expand(x), 0.2)), 0.2))


class R3Generator(ModelMixin, ConfigMixin):
    """Latent (N, latent_channels, 1, 1) ~ N(0, I) -> images (N, out_channels, sample_size, sample_size).

    A learnt basis of 4x4 maps, each weighed by a linear function of the latent; then stages of `layers_per_block`
    inverted bottlenecks, with bilinear doubling between them; then a 1x1 convolution. `block_out_channels` are the
    widths, multiples of 8, counted from the image as in diffusers' autoencoders. With `num_classes`, an embedding of
    the class, as wide as the latent, is concatenated to it.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (64, 128, 256, 256),
        layers_per_block: int = 2,
        latent_channels: int = 64,
        sample_size: int = 32,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)[::-1]
        depth = layers_per_block * len(widths)
        side = sample_size // 2 ** (len(widths) - 1)
        inputs = 2 * latent_channels if num_classes else latent_channels
        self.class_embedding = nn.Embedding(num_classes, latent_channels) if num_classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], side, side))
        self.weigh = nn.Linear(inputs, widths[0])
        self.widen = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for before, after in pairwise(widths))
        self.stages = nn.ModuleList(
            nn.Sequential(*(InvertedBottleneck(width, depth) for _ in range(layers_per_block))) for width in widths
        )
        self.to_image = nn.Conv2d(widths[-1], out_channels, 1)
        for layer in (self.weigh, *self.widen, self.to_image):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(self.weigh.bias)
        nn.init.zeros_(self.to_image.bias)  # type: ignore[arg-type]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, 1, 1)."""
        return (self.config.latent_channels, 1, 1)

    def forward(self, latents: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images of latents, and of classes (N,) where there are any; real ones are in [-1, 1] and nothing clips."""
        latents = latents.flatten(1)
        if self.class_embedding is not None:
            latents = torch.cat([latents, self.class_embedding(class_labels).to(latents.dtype)], 1)
        x = self.stages[0](self.basis * self.weigh(latents)[:, :, None, None])
        for widen, stage in zip(self.widen, list(self.stages)[1:], strict=True):
            x = stage(interpolate(widen(x), scale_factor=2.0, mode="bilinear", align_corners=False))
        return self.to_image(x)
