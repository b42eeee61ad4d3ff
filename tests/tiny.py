"""Runs so small that every family trains in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from hfgen.training.phases import Loss, Phase, Step
    from hfgen.training.trainer import Trainer

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
    "flow": [
        "--model.latent_channels=4",
        "--model.prior=gaussian",
        "--model.flow_begin=0.5",
        "--model.unet_width=16",
        "--model.unet_max_width=16",
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


def make_trainer(family: str, data: Path, *overrides: str) -> Trainer:
    """The trainer of that run in fp32, in this process."""
    from accelerate import Accelerator

    from hfgen.training.train import open_data
    from hfgen.training.trainer import Trainer

    config = tiny_config(family, data, "--precision=fp32", *overrides)
    return Trainer(config, open_data(config), Accelerator())


def autoencoder(**changes: Any) -> AutoencoderKL:
    """A tiny one of grey images, in training, the same each time."""
    import torch
    from diffusers import AutoencoderKL

    blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (8, 8)}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4, "layers_per_block": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKL(**{"in_channels": 1, "out_channels": 1, "latent_channels": 2, **blocks, **changes}).train()


def time_costs_once() -> None:
    """From now on a model's batches of 32 are timed once, not seven times, where `compare` and `quickstart` do it."""
    from hfgen.evaluation.timing import measure_costs

    measure_costs.__kwdefaults__["repeats"] = 1


def backward(trainer: Trainer, phase: Phase, step: Step) -> Loss:
    """A phase's loss, whose gradient is then in the networks that it trains."""
    trainer.train_only(phase)
    with trainer.computing("off"):
        loss = trainer.modules[phase.name](step)
    loss.total.backward()
    return loss
