"""The field's autoencoders, each small with random weights, and what each takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

_DOWN = {"down_block_types": ("DownEncoderBlock2D",) * 2}
_BOTH = {**_DOWN, "up_block_types": ("UpDecoderBlock2D",) * 2}
_WAN = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
_WAN |= {"latents_mean": [0.5] * 4, "latents_std": [2.0] * 4}
_EIGHT = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4}


class Small(NamedTuple):
    """Arguments of a class, and what is expected: factor, latent channels, and what differs from the usual.

    Usual are batches of RGB images in [-1, 1] of any size, a Gaussian posterior, no codebook, and no draws.
    """

    arguments: dict[str, Any]
    factor: int
    latent_channels: int
    differs: Mapping[str, Any] = MappingProxyType({})


SMALL = {
    "AutoencoderKL": Small({**_BOTH, "block_out_channels": (8, 8), "norm_num_groups": 4}, 2, 4),
    "AutoencoderKLFlux2": Small(
        {
            **_BOTH,
            "block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 16),
            "norm_num_groups": 4,
            "layers_per_block": 1,
            "latent_channels": 8,
        },
        2,
        8,
    ),
    "AutoencoderKLHunyuanImage": Small(
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
            "spatial_compression_ratio": 2,
            "sample_size": 32,
        },
        2,
        4,
    ),
    "AutoencoderKLKVAE": Small(
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 1)}, 2, 4
    ),
    "AutoencoderKLTemporalDecoder": Small({**_DOWN, "block_out_channels": (32, 32)}, 2, 4),
    "AsymmetricAutoencoderKL": Small(
        {**_BOTH, "down_block_out_channels": (8, 8), "up_block_out_channels": (8, 8), "norm_num_groups": 4}, 2, 4
    ),
    "AutoencoderDC": Small(
        {
            "latent_channels": 4,
            "attention_head_dim": 2,
            "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "encoder_qkv_multiscales": ((), (5,)),
            "decoder_qkv_multiscales": ((), (5,)),
        },
        2,
        4,
        {"gaussian": False},
    ),
    "AutoencoderTiny": Small(
        {
            "encoder_block_out_channels": (8,) * 4,
            "decoder_block_out_channels": (8,) * 4,
            "num_encoder_blocks": (1,) * 4,
            "num_decoder_blocks": (1,) * 4,
        },
        8,
        4,
        {"gaussian": False},
    ),
    "VQModel": Small(
        {**_BOTH, "block_out_channels": (8, 8), "norm_num_groups": 4, "num_vq_embeddings": 8, "latent_channels": 4},
        2,
        4,
        {"gaussian": False, "quantised": True},
    ),
    "AutoencoderKLQwenImage": Small(_WAN, 2, 4, {"frames": True}),
    "AutoencoderKLWan": Small({**_WAN, "scale_factor_spatial": 2}, 2, 4, {"frames": True}),
    "AutoencoderKLQwenImage21": Small(
        {**_WAN, "decoder_base_dim": 4, "scale_factor_spatial": 2}, 2, 4, {"frames": True, "channels": 4}
    ),
    "AutoencoderKLHunyuanVideo": Small(
        {
            "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
            "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
            **_EIGHT,
        },
        8,
        4,
        {"frames": True},
    ),
    "AutoencoderKLCogVideoX": Small(
        {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4, **_EIGHT},
        8,
        4,
        {"frames": True},
    ),
    "AutoencoderKLMochi": Small(
        {
            "latent_channels": 4,
            "latents_mean": (0.5,) * 4,
            "latents_std": (2.0,) * 4,
            "encoder_block_out_channels": (32,) * 4,
            "decoder_block_out_channels": (32,) * 4,
            "layers_per_block": (1,) * 5,
        },
        8,
        4,
        {"frames": True},
    ),
    "AutoencoderKLCosmos": Small(
        {
            "latent_channels": 4,
            "latents_mean": None,
            "latents_std": None,
            "encoder_block_out_channels": (8,) * 4,
            "decode_block_out_channels": (8,) * 4,
            "attention_resolutions": (8,),
            "resolution": 64,
            "num_layers": 1,
        },
        8,
        4,
        {"frames": True, "gaussian": False},
    ),
    "AutoencoderKLLTXVideo": Small(
        {
            "latent_channels": 8,
            "block_out_channels": (8,) * 4,
            "decoder_block_out_channels": (8,) * 4,
            "layers_per_block": (1,) * 5,
            "decoder_layers_per_block": (1,) * 5,
            "spatio_temporal_scaling": (True, True, False, False),
            "decoder_spatio_temporal_scaling": (True, True, False, False),
        },
        16,
        8,
        {"frames": True},
    ),
    "AutoencoderRAE": Small(
        {
            "encoder_type": "mae",
            "encoder_hidden_size": 64,
            "encoder_patch_size": 4,
            "encoder_num_hidden_layers": 1,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
            "patch_size": 4,
            "encoder_input_size": 16,
        },
        4,
        64,
        {"gaussian": False, "unit_range": True, "side": 16},
    ),
    "ConsistencyDecoderVAE": Small(
        {
            "latent_channels": 4,
            "sample_size": 8,
            "encoder_block_out_channels": (8,) * 4,
            "encoder_layers_per_block": 1,
            "encoder_norm_num_groups": 4,
            "decoder_block_out_channels": (8,) * 4,
            "decoder_layers_per_block": 1,
            "decoder_norm_num_groups": 4,
        },
        8,
        4,
        {"draws": True},
    ),
}
"""The classes of `hfgen/autoencoders/README.md` that open."""


def make(name: str, **changes: Any) -> Any:
    """One of them, in evaluation mode."""
    import diffusers

    torch.manual_seed(0)
    return getattr(diffusers, name)(**{**SMALL[name].arguments, **changes}).eval()


def save(name: str, folder: Path, **changes: Any) -> Path:
    """The same, saved."""
    make(name, **changes).save_pretrained(folder)
    return folder


def photographs(count: int, side: int | tuple[int, int] = 32, channels: int = 3) -> torch.Tensor:
    """Smooth colour with noise on it, (count, channels, height, width) in [-1, 1]."""
    height, width = (side, side) if isinstance(side, int) else side
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator) * 1.6 - 0.8
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(-1, 1)
