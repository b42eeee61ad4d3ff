"""Any autoencoder of diffusers is measured, at the sides that it takes."""

from pathlib import Path

import pytest
import torch

import hfgen
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import evaluate

N = 40
PAIRS = {"psnr", "ssim", "perceptual", "averaging_identity", "gain_high", "coherence_high"}


AUTOENCODERS = {
    "VQModel": {"num_vq_embeddings": 8, "latent_channels": 4, "block_out_channels": (8, 8), "norm_num_groups": 4},
    "AutoencoderTiny": {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)},
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 8,
        "encoder_block_types": "ResBlock",
        "decoder_block_types": "ResBlock",
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), ()),
        "decoder_qkv_multiscales": ((), ()),
    },
    "AsymmetricAutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "down_block_out_channels": (8, 8),
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "up_block_out_channels": (8, 8),
        "norm_num_groups": 4,
    },
}


BLOCKS = {
    "VQModel": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    "AutoencoderTiny": {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
}


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stacked glyphs of 16 px, a folder."""
    from hfgen.data import draw
    from hfgen.images import to_pil

    folder = tmp_path_factory.mktemp("coloured")
    for split in ("train", "test"):
        (folder / split).mkdir()
        for index, image in enumerate(to_pil(draw("stacked", split, 0, N, 16).images)):
            image.save(folder / split / f"{index:03d}.png")
    return str(folder)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_any_autoencoder_of_diffusers_is_measured(name: str, coloured: str, tmp_path: Path):
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, name)(**AUTOENCODERS[name], **BLOCKS.get(name, {})).eval()
    model.save_pretrained(tmp_path)
    evaluation = evaluate(tmp_path, coloured, n=N, resolution=16)
    metrics = evaluation.record["metrics"]
    assert metrics.keys() >= PAIRS
    assert ("codebook_usage" in metrics) == (name == "VQModel")
    assert ("rate_bits" in metrics) == (name == "AsymmetricAutoencoderKL")
    images = evaluation.originals[:2].float() / 127.5 - 1
    with torch.no_grad():
        output = model.encode(images)
        latents = getattr(output, "latents", None) if name in ("VQModel", "AutoencoderTiny") else None
        latents = output.latent if name == "AutoencoderDC" else latents
        latents = output.latent_dist.mode() if latents is None else latents
        wanted = ((model.decode(latents).sample + 1) * 127.5).round().clamp(0, 255)
    assert (evaluation.reconstructions[:2].float() - wanted).abs().max() <= 1


def test_an_autoencoder_draws_nothing_and_takes_only_sides_that_it_can_halve(coloured: str, tmp_path: Path):
    import diffusers

    diffusers.AutoencoderTiny(**AUTOENCODERS["AutoencoderTiny"], **BLOCKS["AutoencoderTiny"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="can't generate; call reconstruct"):
        hfgen.load(tmp_path)()
    with pytest.raises(UserError, match=r"resolution: 17 pixels; the model takes multiples of 2, such as 16"):
        evaluate(tmp_path, coloured, n=N, resolution=17, small_images="pad")
