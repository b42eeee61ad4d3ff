"""A GAN's generator: the decoder of an `AutoencoderKL`, alone.

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class GANGenerator(ModelMixin, ConfigMixin):
    """Latent (N, latent_channels, side, side) ~ N(0, I) -> images (N, out_channels, sample_size, sample_size).

    The arguments are those of `AutoencoderKL`; side = sample_size / 2^(blocks - 1).
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
    ) -> None:
        super().__init__()
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(
            in_channels=latent_channels,
            out_channels=out_channels,
            up_block_types=tuple(up_block_types),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents; real images are in [-1, 1] and nothing clips, as in `AutoencoderKL`."""
        return self.decoder(self.post_quant_conv(latents))
