"""Runs so small that every family trains in seconds."""

from pathlib import Path

TINY = {
    "vae": ["--model.latent_channels=4", "--model.prior=gaussian"],
    "vaegan": [
        "--model.latent_channels=4",
        "--model.prior=gaussian",
        "--model.adversarial_begin=0.2",
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
    "vqgan": [
        "--model.codes=16",
        "--model.prior_width=16",
        "--model.prior_layers=1",
        "--model.prior_heads=2",
        "--model.adversarial_loss=relativistic",
        "--model.adversarial_begin=0.1",
        "--model.lecam_weight=0.1",
        "--model.perceptual=embedded",
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
    "vqvae": [
        "--model.codes=16",
        "--model.prior_width=16",
        "--model.prior_layers=1",
        "--model.prior_heads=2",
    ],
    "gan": [
        "--model.latent_channels=4",
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
    "pix2pix": [
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
    "ali": [
        "--model.latent_channels=4",
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
}
"""Overrides that make a family's recipe tiny; a new family adds its row."""

COMMON = ["--resolution=16", "--max_images=96", "--batch_size=16", "--warmup_images=16", "--log_every=32"]
COMMON += ["--model.width=16", "--model.max_width=16", "--sample_every=48", "--checkpoint_every=48"]


def tiny_config(family: str, data: Path, *overrides: str):
    """The tiny run of a family on a folder."""
    from hfgen.configs import load_config

    return load_config(f"{family}-glyphs", [*COMMON, *TINY[family], f"--data={data}", *overrides])
