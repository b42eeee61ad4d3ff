"""The one decoder that VAE, VQ-VAE and GAN share: diffusers' `Decoder`, shaped by a few numbers."""

from __future__ import annotations

import math
from typing import Any

from hfgen.errors import UserError


def decoder_arguments(
    resolution: int,
    channels: int,
    latent_channels: int,
    latent_size: int,
    width: int,
    max_width: int,
    layers: int = 1,
    attention: bool = False,
) -> dict[str, Any]:
    """Constructor arguments of `AutoencoderKL`, `VQModel` and `GANGenerator` for one decoder.

    The latent is (latent_channels, latent_size, latent_size); each block doubles the side up to `resolution`.
    `latent_size=1` is a vector latent. Block i, counted from the image, has min(width * 2^i, max_width)
    channels. The Stable Diffusion autoencoder has width 128, max_width 512, 2 layers a block, attention between the
    blocks, and a ratio of 8.

    Raises:
        UserError: `resolution` isn't `latent_size` times a power of two, a width isn't a multiple of 16,
            or `layers` isn't positive.
    """
    ratio = resolution // latent_size if latent_size > 0 else 0
    if ratio < 2 or latent_size * ratio != resolution or ratio & (ratio - 1):
        reachable = ", ".join(str(latent_size * 2**n) for n in range(3, 9)) if latent_size > 0 else "none"
        raise UserError(
            f"resolution: {resolution} can't be reached from a latent of side {latent_size} by doubling; "
            f"choose one of {reachable}, or another model.latent_size"
        )
    check_widths(width=width, max_width=max_width)
    if layers < 1:
        raise UserError(f"model.layers_per_block: {layers} is too small; a block has at least 1 layer")
    widths = [min(width * 2**i, max_width) for i in range(ratio.bit_length())]
    return {
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": layers,
        "latent_channels": latent_channels,
        # Half the narrowest block, where that divides the other widths.
        "norm_num_groups": math.gcd(min(32, width // 2), *widths),
        "sample_size": resolution,
        "mid_block_add_attention": attention,
    }


def check_widths(**widths: int) -> None:
    """Refuse numbers of channels, by the name of their setting, that can't be normalised in groups.

    Raises:
        UserError: one isn't a positive multiple of 16.
    """
    for name, value in widths.items():
        if value < 16 or value % 16:
            raise UserError(f"model.{name}: {value} isn't a positive multiple of 16; choose 16, 32, 64, ...")
