"""The planted faults of `benchmark.py faults`: how each model is made, and what should be found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

RESOLUTION = 16
_SHIFT = 4.0
_BRIEFLY = 12
_COMMON: tuple[str, ...] = (
    f"--resolution={RESOLUTION}",
    "--batch_size=32",
    "--warmup_images=640",
    "--ema_half_life=500",
)
_COMMON += ("--sample_every=0", "--checkpoint_every=0", "--model.max_width=32", "--model.latent_size=8")
# A latent of 128 numbers for 256 pixels, and little noise: nearly all detail passes. One Gaussian doesn't fit so many
# numbers: with it, samples lose power that reconstructions have.
_WIDE = ("--model.latent_channels=2", "--model.variance=0.002", "--model.lr=2e-3", "--model.prior=mixture")
# As many numbers before 16 codes an image; of more codes, so small a prior makes samples that are wrong by themselves.
_FEW_CODES = (
    "--model.codes=4",
    "--model.latent_size=4",
    "--model.code_channels=8",
    "--model.lr=2e-3",
    "--model.prior_width=32",
    "--model.prior_layers=1",
)

_MANY_CODES = (*_FEW_CODES[1:], "--model.codes=256", "--model.latent_size=8")


class Fault(NamedTuple):
    """`causes`: what the diagnosis may name first; of a pair, both must be among the first three.

    Models are made by training (`make`), or are a healthy VAE whose images are changed (`after`), which isn't refit.
    `data`: what the model is trained on; `judged`: what it is diagnosed on.
    """

    causes: tuple[str, ...]
    make: Callable[[Any, str, Path], None] | None = None
    after: Callable[[Any], Any] | None = None
    data: str = "complete"
    judged: str = "complete"
    colour: bool = False
    pair: bool = False

    @property
    def healthy(self) -> bool:
        """Whether nothing should be found."""
        return self.causes == ("sharp",)


class Job(NamedTuple):
    """One model: where its data lie, the images that it sees, and its seed."""

    data: Path
    images: int
    seed: int


def _train(recipe: str, *overrides: str, job: Job, data: str, out: Path, images: int | None = None) -> None:
    from hfgen.configs import load_config
    from hfgen.training.train import train

    own = (f"--data={data}", f"--seed={job.seed}", f"--max_images={images or job.images}", f"--log_every={job.images}")
    train(load_config(f"{recipe}-glyphs", [*_COMMON, *own, *overrides]), out)


def _recipe(recipe: str, *overrides: str, rounds: float = 1) -> Callable[[Job, str, Path], None]:
    """A fault that is a setting."""

    def make(job: Job, data: str, out: Path) -> None:
        _train(recipe, *overrides, job=job, data=data, out=out, images=round(rounds * job.images))

    return make


def healthy_vae(job: Job, data: str, out: Path) -> Any:
    """The pipeline of this data and seed, trained beside `out` where it isn't there."""
    import hfgen

    kind = Path(data).name
    healthy = out.with_name(f"healthy-{job.seed}" if kind == "complete" else f"healthy-{kind}-{job.seed}")
    if not (healthy / "pretrained").is_dir():
        _train("vae", *_WIDE, job=job, data=data, out=healthy)
    return hfgen.load(healthy)


def _changed(change: Callable[[Any, Job, str], None], job: Job, data: str, out: Path) -> None:
    """A fault that is made in a healthy VAE after its training, kept beside it."""
    from hfgen.files import atomic_folder

    pipeline = healthy_vae(job, data, out)
    change(pipeline, job, data)
    with atomic_folder(out / "pretrained") as folder:
        pipeline.save_pretrained(folder)


def _forget_decoder(pipeline: Any, job: Job, data: str) -> None:
    """The decoder's weights anew, and a few steps of training."""
    _forget(pipeline, pipeline.vae.decoder, "decoder", _BRIEFLY, job, data)


def _forget(pipeline: Any, part: Any, cell: str, steps: int, job: Job, data: str) -> None:
    import torch

    from hfgen.autoencoders import Autoencoder
    from hfgen.data import open_store
    from hfgen.diagnosis.budgets import Budget
    from hfgen.diagnosis.refits import refit
    from hfgen.models.initialise import initialise

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        for module in part.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        initialise(part)
    images = open_store(data, split="train", resolution=RESOLUTION).images
    budget = Budget(images=0, latent_steps=0, refit_steps=steps, refit_batch=32)
    (student,) = refit(Autoencoder(pipeline.vae), images, cell, budget, job.seed, repeats=1)
    pipeline.vae.load_state_dict(student.network.state_dict())


def _shift_latents(pipeline: Any, job: Job, data: str) -> None:
    """Move the aggregate posterior away from N(0, I), which latents are drawn from; the decoder moves along."""
    import torch

    pipeline.prior, vae = None, pipeline.vae
    channels = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.bias[:channels] += _SHIFT
        vae.post_quant_conv.bias -= _SHIFT * vae.post_quant_conv.weight.sum((1, 2, 3))


def _forget_encoder(pipeline: Any, job: Job, data: str) -> None:
    """The encoder's weights anew, and a few steps of training."""
    _forget(pipeline, pipeline.vae.encoder, "encoder", 8 * _BRIEFLY, job, data)


def _scaling(factor: float) -> Callable[[Job, str, Path], None]:
    """A healthy VAE as a latent diffusion model would take it, with a factor of the config that is wrong."""

    def make(job: Job, data: str, out: Path) -> None:
        pipeline = healthy_vae(job, data, out)
        pipeline.vae.register_to_config(scaling_factor=factor)
        pipeline.vae.save_pretrained(out / "pretrained")

    return make


def _blurred(images: Any) -> Any:
    from torch.nn.functional import avg_pool2d, pad

    return avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _with_board(images: Any, height: float) -> Any:
    import torch

    line = torch.arange(images.shape[-1])
    return images + height * ((line[:, None] + line) % 2 * 2 - 1).to(images)


def _with_noise(images: Any, deviation: float = 0.12) -> Any:
    import torch

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(len(images)))
    return images + deviation * noise.to(images)


def _squashed(images: Any) -> Any:
    from torch.nn.functional import interpolate, pad

    side = images.shape[-1]
    narrow = interpolate(images, size=(side, side * 3 // 4), mode="bilinear", antialias=True)
    return pad(narrow, (side // 8, side // 8, 0, 0), mode="replicate")


def _pale(images: Any) -> Any:
    import torch

    grey = (images * torch.tensor([0.299, 0.587, 0.114]).to(images)[:, None, None]).sum(1, keepdim=True)
    return grey + 0.4 * (images - grey)


def _cast(images: Any) -> Any:
    import torch

    return images + torch.tensor([0.15, 0.0, -0.1]).to(images)[:, None, None]


def _after(*causes: str, change: Callable[[Any], Any], **more: Any) -> Fault:
    return Fault(causes, after=change, **more)


FAULTS: dict[str, Fault] = {
    "latent of 2": Fault(("bottleneck",), _recipe("vae", *_WIDE, "--model.latent_size=1", "--model.latent_channels=2")),
    "KL x 200": Fault(("noise",), _recipe("vae", *_WIDE, "--model.kl_weight=200")),
    "brief decoder": Fault(("decoder", "under_trained"), partial(_changed, _forget_decoder)),
    "brief encoder": Fault(("encoder", "under_trained"), partial(_changed, _forget_encoder)),
    "4 codes": Fault(("codes",), _recipe("vqvae", *_FEW_CODES, rounds=2)),
    "brief VQ-VAE": Fault(("under_trained", "network"), _recipe("vqvae", *_MANY_CODES, rounds=0.1)),
    "brief vector": Fault(
        ("under_trained", "network"), _recipe("vae", "--model.latent_size=1", "--model.latent_channels=32", rounds=0.1)
    ),
    "shifted latents": Fault(("prior",), partial(_changed, _shift_latents)),
    "3 classes left out": Fault(
        ("modes",), _recipe("gan", "--model.latent_size=2", "--model.latent_channels=4", rounds=2), data="incomplete"
    ),
    "upscaled data": Fault(("data",), _recipe("vae", *_WIDE), data="blurred", judged="blurred"),
    "made-up detail": Fault(
        ("invented_detail",),
        _recipe("vaegan", *_WIDE, "--model.latent_size=1", "--model.latent_channels=2", rounds=2),
    ),
    "scaling factor": Fault(("scaling_factor",), _scaling(0.02)),
    "[0, 1]": _after("range", change=lambda y: y / 2 + 0.5),
    "negative": _after("range", change=lambda y: -y),
    "contrast": _after("contrast", change=lambda y: 0.6 * y),
    "shift": _after("shifted", change=lambda y: y.roll(1, -1)),
    "mirror": _after("flipped", change=lambda y: y.flip(-1)),
    "squash": _after("stretched", change=_squashed),
    "white noise": _after("noise", change=_with_noise),
    "checkerboard": _after("pattern", change=lambda y: _with_board(y, 0.1)),
    "blur + checkerboard": _after("masked_blur", "pattern", change=lambda y: _with_board(_blurred(y), 0.25), pair=True),
    "BGR": _after("swapped_channels", change=lambda y: y.flip(1), colour=True),
    "colour cast": _after("colour_shift", change=_cast, colour=True),
    "pale": _after("saturation", change=_pale, colour=True),
    "contrast + shift": _after("contrast", "shifted", change=lambda y: 0.6 * y.roll(1, -1), pair=True),
    "contrast + noise": _after("contrast", "noise", change=lambda y: _with_noise(0.6 * y), pair=True),
    "noise + shift": _after("noise", "shifted", change=lambda y: _with_noise(y.roll(1, -1)), pair=True),
    "noise + mirror": _after("noise", "flipped", change=lambda y: _with_noise(y.flip(-1)), pair=True),
    "checkerboard + squash": _after(
        "pattern", "stretched", change=lambda y: _with_board(_squashed(y), 0.15), pair=True
    ),
    "checkerboard + contrast": _after("pattern", "contrast", change=lambda y: _with_board(0.6 * y, 0.1), pair=True),
    "healthy VAE": Fault(("sharp",), _recipe("vae", *_WIDE)),
    "healthy VAE-GAN": Fault(("sharp",), _recipe("vaegan", *_WIDE)),
    "healthy VQ-VAE": Fault(("sharp",), _recipe("vqvae", *_MANY_CODES, rounds=3)),
    "healthy network, no refits": _after("sharp", change=lambda y: y),
    "smooth data": _after("sharp", change=lambda y: y, data="smooth", judged="smooth"),
}
"""By name; a cause of a gate, or one of the missing power."""
