"""The models that the faults of `benchmark.py faults` are planted in: each is trained once for a data set and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fault_data import RESOLUTION, channels_of

_BATCH = 32
_COMMON: tuple[str, ...] = (
    f"--resolution={RESOLUTION}",
    f"--batch_size={_BATCH}",
    "--warmup_images=640",
    "--ema_half_life=500",
    "--sample_every=0",
    "--checkpoint_every=0",
)
_SMALL = "--model.max_width=32"
# A latent of 128 numbers for 256 pixels, and little noise: nearly all detail passes. One Gaussian doesn't fit so many
# numbers: with it, samples lose power that reconstructions have.
_WIDE = (
    "--model.latent_size=8",
    "--model.latent_channels=2",
    "--model.variance=0.002",
    "--model.lr=2e-3",
    "--model.prior=mixture",
)
_ADVERSARY = ("--model.adversarial_weight=0.5", "--model.penalty=0")
_WIDE_IN_COLOUR = ("--model.latent_channels=6",)
_NARROW = (*_WIDE[2:], "--model.latent_size=1", "--model.latent_channels=2")
# As many numbers before 16 codes an image; of more codes, so small a prior makes samples that are wrong by themselves.
_CODES = (
    "--model.code_channels=8",
    "--model.lr=2e-3",
    "--model.prior_begin=0.5",
    "--model.prior_width=32",
    "--model.prior_layers=1",
    "--model.prior_init=0.02",
)
_MANY = ("--model.codes=256", "--model.latent_size=8")
_LEVELS = ("--model.levels=[8,6,5]", "--model.codes=240", "--model.code_channels=3")
_FEW = 1600
_TEACHING_RATE = 2e-3


class Job(NamedTuple):
    """Where the data and the models lie, the images that a model sees, its seed, and whether it is a recipe's own."""

    data: Path
    models: Path
    images: int
    seed: int
    recipe: bool = False


class Recipe(NamedTuple):
    """A family's recipe with other settings; it sees `images`, or `rounds` times the job's, of the `data` written.

    `in_colour`: further settings where the data are.
    """

    name: str
    settings: tuple[str, ...] = ()
    in_colour: tuple[str, ...] = ()
    rounds: float = 1.0
    data: str = "complete"
    images: int | None = None

    def train(self, job: Job, out: Path) -> None:
        """Into a folder; a run that was stopped goes on."""
        from hfgen.configs import load_config
        from hfgen.training.train import train

        images = self.images or round(self.rounds * job.images)
        own = (
            f"--data={job.data / self.data}",
            f"--seed={job.seed}",
            f"--max_images={images}",
            f"--log_every={images}",
        )
        small = () if job.recipe else (_SMALL,)
        settings = self.settings_for(channels_of(job.data))
        train(load_config(f"{self.name}-glyphs", [*_COMMON, *small, *own, *settings]), out)

    def settings_for(self, channels: int) -> tuple[str, ...]:
        """Those of data in grey or in colour."""
        return (*self.settings, *self.in_colour) if channels == 3 else self.settings


class Foreign(NamedTuple):
    """An autoencoder of diffusers, taught the images by the squared error alone, in twice a recipe's steps."""

    name: str
    config: dict[str, Any]

    def train(self, job: Job, out: Path) -> None:
        """Into `out`/pretrained."""
        import diffusers
        import torch

        from hfgen.data import open_store
        from hfgen.files import atomic_folder
        from hfgen.images import to_float

        store = open_store(str(job.data / "complete"), split="train", resolution=RESOLUTION)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            network = getattr(diffusers, self.name)(
                in_channels=store.channels, out_channels=store.channels, **self.config
            )
            generator = torch.Generator().manual_seed(job.seed)
            steps = 2 * job.images // _BATCH
            optimizer = torch.optim.Adam(network.parameters(), _TEACHING_RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                images = to_float(store.images[torch.randint(len(store), (_BATCH,), generator=generator)])
                loss = (network(images).sample - images).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        with atomic_folder(out / "pretrained") as folder:
            network.eval().save_pretrained(folder)


# Half the side and as many numbers as pixels: next to nothing need be lost.
_HALVED = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
_KL = {**_HALVED, "block_out_channels": [16, 32], "norm_num_groups": 8, "latent_channels": 4, "scaling_factor": 1.0}
_TINY: dict[str, Any] = {
    "encoder_block_out_channels": (16, 16),
    "decoder_block_out_channels": (16, 16),
    "num_encoder_blocks": (1, 1),
}
_TINY |= {"num_decoder_blocks": (1, 1), "latent_channels": 4}
_VQ = {**_HALVED, "block_out_channels": [16, 32], "norm_num_groups": 8, "latent_channels": 4, "num_vq_embeddings": 64}

TRAINED: dict[str, Recipe | Foreign] = {
    "VAE": Recipe("vae", _WIDE, _WIDE_IN_COLOUR),
    "VAE of upscaled data": Recipe("vae", _WIDE, _WIDE_IN_COLOUR, data="blurred"),
    "VAE of smooth data": Recipe("vae", _WIDE, _WIDE_IN_COLOUR, data="smooth"),
    "VAE, latent of 2": Recipe("vae", _NARROW),
    "VAE, KL x 200": Recipe("vae", (*_WIDE, "--model.kl_weight=200"), _WIDE_IN_COLOUR),
    "VAE of a vector, brief": Recipe("vae", ("--model.latent_size=1", "--model.latent_channels=32"), images=3 * _FEW),
    "VAE-GAN": Recipe("vaegan", (*_WIDE, *_ADVERSARY), _WIDE_IN_COLOUR),
    "VQ-VAE": Recipe("vqvae", (*_CODES, *_MANY), rounds=3),
    "VQ-VAE, brief": Recipe("vqvae", (*_CODES, *_MANY), images=_FEW),
    "VQ-VAE, 4 codes": Recipe("vqvae", (*_CODES, "--model.codes=4", "--model.latent_size=4"), rounds=2),
    "FSQ": Recipe("vqvae", (*_CODES[1:], *_LEVELS, "--model.latent_size=8"), rounds=3),
    "GAN, 3 classes left out": Recipe(
        "gan", ("--model.latent_size=2", "--model.latent_channels=4", "--model.penalty=1"), rounds=2, data="incomplete"
    ),
    "AutoencoderKL": Foreign("AutoencoderKL", _KL),
    "AutoencoderTiny": Foreign("AutoencoderTiny", _TINY),
    "VQModel": Foreign("VQModel", _VQ),
}
"""By name; the folder of each has its seed as well."""


def trained(name: str, job: Job) -> Path:
    """The folder of a model, trained where it isn't there."""
    out = job.models / f"{name}{' (recipe)' if job.recipe else ''}-{job.seed}"
    if not (out / "pretrained").is_dir():
        TRAINED[name].train(job, out)
    return out
