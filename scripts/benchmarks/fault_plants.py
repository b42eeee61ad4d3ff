"""The planted faults of `benchmark.py faults`: what each does to which model, and what should be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fault_data import RESOLUTION
from benchmarks.fault_models import Job, trained

_SHIFT = 4.0
_BRIEFLY = 12


class Fault(NamedTuple):
    """`causes`: what the diagnosis may name first; of a pair, both must be among the first three.

    A model as it is trained (`model`, of `fault_models.TRAINED`), or one that is changed: its weights or settings by
    `change`, which returns what is saved, its images by `after`, of which nothing else is known then. `judged`: the
    data that it is diagnosed on. `refits`: whether only refits can tell. `as_before`: whether reconstructions are those
    of the model as it was trained.
    """

    causes: tuple[str, ...]
    model: str = "VAE"
    change: Callable[[Any, Job], Any] | None = None
    after: Callable[[Any], Any] | None = None
    judged: str = "complete"
    refits: bool = False
    as_before: bool = False
    colour: bool = False
    pair: bool = False

    @property
    def healthy(self) -> bool:
        """Whether nothing should be found."""
        return self.causes == ("sharp",)

    def load(self, job: Job, folder: Path) -> Any:
        """What `diagnose` takes, trained and changed where it isn't there; `folder` is for what is changed."""
        if self.after is not None:
            return _changed_images(trained(self.model, job), self.after)
        if self.change is None:
            return trained(self.model, job)
        if not (folder / "pretrained").is_dir():
            self._plant(job, folder)
        return folder

    def _plant(self, job: Job, folder: Path) -> None:
        import hfgen
        from hfgen.files import atomic_folder

        assert self.change is not None, "only of what is changed"
        pipeline = hfgen.load(trained(self.model, job))
        changed = self.change(pipeline, job)
        with atomic_folder(folder / "pretrained") as saved:
            changed.save_pretrained(saved)


def _changed_images(folder: Path, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A pair of functions around a VAE: nothing in them is known but what they give."""
    import hfgen

    vae = hfgen.load(folder).vae

    def decode(latents: Any) -> Any:
        return change(vae.decode(latents).sample)

    def encode(images: Any) -> Any:
        return vae.encode(images).latent_dist.mean

    return {"encode": encode, "decode": decode}


def _forget(part: str, cell: str, steps: int) -> Callable[[Any, Job], Any]:
    """The weights of one part anew, and a few steps of training."""

    def change(pipeline: Any, job: Job) -> Any:
        import torch

        from hfgen.autoencoders import Autoencoder
        from hfgen.data import open_store
        from hfgen.diagnosis.budgets import Budget
        from hfgen.diagnosis.refits import refit
        from hfgen.models.initialise import initialise

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            network = getattr(pipeline.vae, part)
            for module in network.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            initialise(network)
        images = open_store(str(job.data / "complete"), split="train", resolution=RESOLUTION).images
        budget = Budget(images=0, latent_steps=0, refit_steps=steps, refit_batch=32)
        (student,) = refit(Autoencoder(pipeline.vae), images, cell, budget, job.seed, repeats=1)
        pipeline.vae.load_state_dict(student.network.state_dict())
        return pipeline

    return change


def _shift_latents(pipeline: Any, job: Job) -> Any:
    """Move the aggregate posterior away from N(0, I), which latents are drawn from; the decoder moves along."""
    import torch

    pipeline.prior, vae = None, pipeline.vae
    channels = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.bias[:channels] += _SHIFT
        vae.post_quant_conv.bias -= _SHIFT * vae.post_quant_conv.weight.sum((1, 2, 3))
    return pipeline


def _alone(pipeline: Any, job: Job) -> Any:
    """The autoencoder without the prior that draws its latents."""
    from hfgen.pipelines.autoencoder import codec_of

    codec = codec_of(pipeline)
    assert codec is not None, "of autoencoders"
    return codec.network


def _wrong_factor(factor: float) -> Callable[[Any, Job], Any]:
    """A factor of the config that is wrong, in an autoencoder as a latent diffusion model takes it."""

    def change(pipeline: Any, job: Job) -> Any:
        network = _alone(pipeline, job)
        network.register_to_config(scaling_factor=factor)
        return network

    return change


def _other_detail(images: Any) -> Any:
    """Each image's coarse content with the next one's detail: its power, and nothing of its content."""
    coarse = _blurred(_blurred(images))
    return coarse + (images - coarse).roll(1, 0)


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
    "latent of 2": Fault(("bottleneck",), "VAE, latent of 2", refits=True),
    "KL x 200": Fault(("noise",), "VAE, KL x 200", refits=True),
    "brief decoder": Fault(("decoder", "under_trained"), change=_forget("decoder", "decoder", _BRIEFLY), refits=True),
    "brief encoder": Fault(
        ("encoder", "under_trained"), change=_forget("encoder", "encoder", 8 * _BRIEFLY), refits=True
    ),
    "4 codes": Fault(("codes",), "VQ-VAE, 4 codes", refits=True),
    "brief VQ-VAE": Fault(("under_trained", "network"), "VQ-VAE, brief"),
    "brief vector": Fault(("under_trained", "network"), "VAE of a vector, brief"),
    "shifted latents": Fault(("prior",), change=_shift_latents, as_before=True),
    "3 classes left out": Fault(("modes",), "GAN, 3 classes left out"),
    "upscaled data": Fault(("data",), "VAE of upscaled data", judged="blurred"),
    "other detail": _after("invented_detail", change=_other_detail),
    "scaling factor": Fault(("scaling_factor",), change=_wrong_factor(0.02), as_before=True),
    "[0, 1]": _after("range", change=lambda y: y / 2 + 0.5),
    "negative": _after("range", change=lambda y: -y),
    "contrast": _after("contrast", change=lambda y: 0.6 * y),
    "shift": _after("shifted", change=lambda y: y.roll(1, -1)),
    "mirror": _after("flipped", change=lambda y: y.flip(-1)),
    "squash": _after("stretched", change=_squashed),
    "white noise": _after("white_noise", change=_with_noise),
    "checkerboard": _after("pattern", change=lambda y: _with_board(y, 0.1)),
    "blur + checkerboard": _after("masked_blur", "pattern", change=lambda y: _with_board(_blurred(y), 0.25), pair=True),
    "BGR": _after("swapped_channels", change=lambda y: y.flip(1), colour=True),
    "colour cast": _after("colour_shift", change=_cast, colour=True),
    "pale": _after("saturation", change=_pale, colour=True),
    "contrast + shift": _after("contrast", "shifted", change=lambda y: 0.6 * y.roll(1, -1), pair=True),
    "contrast + noise": _after("contrast", "white_noise", change=lambda y: _with_noise(0.6 * y), pair=True),
    "noise + shift": _after("white_noise", "shifted", change=lambda y: _with_noise(y.roll(1, -1)), pair=True),
    "noise + mirror": _after("white_noise", "flipped", change=lambda y: _with_noise(y.flip(-1)), pair=True),
    "checkerboard + squash": _after(
        "pattern", "stretched", change=lambda y: _with_board(_squashed(y), 0.15), pair=True
    ),
    "checkerboard + contrast": _after("pattern", "contrast", change=lambda y: _with_board(0.6 * y, 0.1), pair=True),
    "healthy VAE": Fault(("sharp",), "VAE"),
    "healthy VAE-GAN": Fault(("sharp",), "VAE-GAN"),
    "healthy VQ-VAE": Fault(("sharp",), "VQ-VAE"),
    "healthy FSQ": Fault(("sharp",), "FSQ"),
    "healthy VAE-GAN alone": Fault(("sharp",), "VAE-GAN", change=_alone),
    "healthy VQ-VAE alone": Fault(("sharp",), "VQ-VAE", change=_alone),
    "healthy FSQ alone": Fault(("sharp",), "FSQ", change=_alone),
    "healthy AutoencoderKL": Fault(("sharp",), "AutoencoderKL"),
    "healthy AutoencoderTiny": Fault(("sharp",), "AutoencoderTiny"),
    "healthy VQModel": Fault(("sharp",), "VQModel"),
    "healthy network, no refits": _after("sharp", change=lambda y: y),
    "smooth data": _after("sharp", change=lambda y: y, model="VAE of smooth data", judged="smooth"),
}
"""By name; a cause of a gate, or one of the missing power."""
