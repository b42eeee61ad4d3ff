"""A GAN's generator with few operations an image: DCGAN's (Radford et al., 1511.06434), with another normalisation.

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

from itertools import pairwise

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, cat, nn

_GROUP = 16
"""Channels that are normalised together."""


class DCGANGenerator(ModelMixin, ConfigMixin):
    """Latent (N, latent_channels, 1, 1) ~ N(0, I) -> images (N, out_channels, sample_size, sample_size) in [-1, 1].

    Transposed convolutions, to 4x4 first and then each to twice the side, with the widths `block_out_channels`, counted
    from the image, and tanh at the end. Groups of 16 channels of an image are normalised where DCGAN normalises a
    batch, so that an image depends neither on its neighbours nor on how processes share them. With `num_classes`, an
    embedding of the class, as wide as the latent, is concatenated to it.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (64, 128, 256),
        latent_channels: int = 100,
        sample_size: int = 32,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)[::-1]
        inputs = 2 * latent_channels if num_classes else latent_channels
        self.class_embedding = nn.Embedding(num_classes, latent_channels) if num_classes else None
        blocks = [_block(nn.ConvTranspose2d(inputs, widths[0], 4, bias=False))]
        blocks += [_block(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)) for before, after in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.to_image = nn.ConvTranspose2d(widths[-1], out_channels, 4, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)
        nn.init.zeros_(self.to_image.bias)  # type: ignore[arg-type]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, 1, 1)."""
        return (self.config.latent_channels, 1, 1)

    def forward(self, latents: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images of latents, and of classes (N,) where there are any."""
        latents = latents.flatten(1)
        if self.class_embedding is not None:
            latents = cat([latents, self.class_embedding(class_labels).to(latents.dtype)], 1)
        return self.to_image(self.blocks(latents[:, :, None, None])).tanh()


def _block(layer: nn.ConvTranspose2d) -> nn.Sequential:
    width = layer.out_channels
    return nn.Sequential(layer, nn.GroupNorm(max(1, width // _GROUP), width), nn.ReLU())
