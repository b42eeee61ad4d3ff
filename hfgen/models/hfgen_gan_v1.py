"""A GAN's generator: the decoder of an `AutoencoderKL`, alone.

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, cat, nn


class GANGenerator(ModelMixin, ConfigMixin):
    """Latent (N, latent_channels, side, side) ~ N(0, I) -> images (N, out_channels, sample_size, sample_size).

    The arguments are those of `AutoencoderKL`; side = sample_size / 2^(blocks - 1). With `num_classes`, an embedding
    of the class, as wide as the latent, is concatenated to it at every place.
    """

    @register_to_config
    def __init__(
        self,
        out_channels: int = 3,
        up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",),
        block_out_channels: tuple[int, ...] = (64,),
        layers_per_block: int = 1,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int = 32,
        mid_block_add_attention: bool = False,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.class_embedding = nn.Embedding(num_classes, latent_channels) if num_classes else None
        inputs = 2 * latent_channels if num_classes else latent_channels
        self.post_quant_conv = nn.Conv2d(inputs, inputs, 1)
        self.decoder = Decoder(
            in_channels=inputs,
            out_channels=out_channels,
            up_block_types=tuple(up_block_types),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: (channels, side, side)."""
        side = self.config.sample_size // 2 ** (len(self.config.block_out_channels) - 1)
        return (self.config.latent_channels, side, side)

    def forward(self, latents: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Decode latents, with classes (N,) where there are any.

        Real images are in [-1, 1] and nothing clips, as in `AutoencoderKL`.
        """
        if self.class_embedding is not None:
            embedded = self.class_embedding(class_labels).to(latents.dtype)[:, :, None, None]
            latents = cat([latents, embedded.expand(-1, -1, *latents.shape[2:])], 1)
        return self.decoder(self.post_quant_conv(latents))
