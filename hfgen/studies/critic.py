"""What does a GAN's discriminator think of blur, against other faults of the same error?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.images import to_float
from hfgen.metrics import Estimate
from hfgen.studies import shared_cells
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study, crisp
from hfgen.studies.effects import value
from hfgen.studies.verdicts import ACCURACY
from hfgen.training.checkpoints import load_network, newest_checkpoint

_CELLS = {"GAN": shared_cells.GAN}
# Blurs by a Gaussian of so many pixels; every other fault is made as large in squared error.
_SIGMAS = (0.4, 0.7, 1.0)
_HALVINGS = 25


def _measure(trained: Trained) -> dict[str, Estimate]:
    """The share of real images whose score falls when they are blurred, and when they have another fault."""
    images = to_float(trained.evaluation.originals)
    critic = _discriminator(trained)
    with torch.no_grad():
        scores = critic(images)
        faults, found = _faults(trained.config.seed), {}
        for sigma in _SIGMAS:
            blurred = _blur(images, sigma)
            error = float((blurred - images).square().mean())
            faulty = {"blur": blurred} | {name: _as_large(fault, images, error) for name, fault in faults.items()}
            worse = {name: (critic(changed) < scores).double() for name, changed in faulty.items()}
            for name, noticed in worse.items():
                found[_noticed(name, sigma)] = metrics.bootstrap_mean(noticed, seed=0)
                if name != "blur":
                    found[_beyond(name, sigma)] = metrics.bootstrap_mean(worse["blur"] - noticed, seed=0)
    return found


def _discriminator(trained: Trained) -> torch.nn.Module:
    """The run's discriminator, as its last checkpoint holds it."""
    checkpoint = newest_checkpoint(trained.folder / "checkpoints")
    if checkpoint is None:
        raise UserError(f"out: {trained.folder} has lost its checkpoint; remove the folder to train it again")
    networks = trained.config.model.build(trained.config.resolution, trained.evaluation.originals.shape[1])
    critic = networks["discriminator"]
    load_network("discriminator", critic, checkpoint[1]["network.discriminator"])
    return critic.eval()


def _blur(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of `sigma` pixels, exact in frequency."""
    return _filtered(images, lambda x, y: torch.exp(-2 * (torch.pi * sigma) ** 2 * (x**2 + y**2)))


def _filtered(images: Tensor, response: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    side = images.shape[-1]
    y, x = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    return torch.fft.irfft2(torch.fft.rfft2(images) * response(x, y), s=(side, side))


Fault = Callable[[Tensor, float], Tensor]


def _faults(seed: int) -> dict[str, Fault]:
    """Faults of a strength from 0: noise, less contrast, and a shift by parts of a pixel."""
    generator = torch.Generator()

    def noise(images: Tensor, strength: float) -> Tensor:
        # The same noise at every strength.
        return images + strength * torch.randn(images.shape, generator=generator.manual_seed(seed))

    def contrast(images: Tensor, strength: float) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        return mean + (images - mean) * (1 - strength)

    def shift(images: Tensor, strength: float) -> Tensor:
        return _filtered(images, lambda x, y: torch.exp(-2j * torch.pi * strength * (x + y)))

    return {"noise": noise, "contrast": contrast, "shift": shift}


def _as_large(fault: Fault, images: Tensor, error: float) -> Tensor:
    """The images with the fault in that strength, at most 1, whose mean squared error is `error`."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float((fault(images, middle) - images).square().mean()) < error:
            low = middle
        else:
            high = middle
    return fault(images, high)


def _noticed(name: str, sigma: float = 0.7) -> str:
    return f"noticed_{name}_{sigma}"


def _beyond(name: str, sigma: float = 0.7) -> str:
    """Of the blur beyond another fault, image by image."""
    return f"noticed_blur_beyond_{name}_{sigma}"


STUDY = Study(
    name="critic",
    question="Does the adversary tolerate blur?",
    variable="a fault of real images: blur, or noise, contrast or shift of the same squared error",
    metric="the share of real images that a trained discriminator likes less with the fault",
    cells=_CELLS,
    claims=(
        Claim(
            "blur",
            "Blurred images are obviously fake, and an adversary won't tolerate them.",
            Contrast(
                "the share of images that score lower after a blur of .7 px, beyond one half",
                value("GAN", _noticed("blur"), beyond=0.5),
                ACCURACY,
                "above",
            ),
            (crisp("GAN"),),
        ),
        Claim(
            "more",
            "It is blur that the adversary minds, more than other faults of the same error.",
            Contrast(
                "the share that score lower after the blur beyond that after white noise",
                value("GAN", _beyond("noise")),
                ACCURACY,
                "above",
            ),
            (crisp("GAN"),),
            tuple(
                Beside(
                    f"the share that score lower after the blur beyond that after {name}", value("GAN", _beyond(name))
                )
                for name in ("contrast", "shift")
            ),
        ),
        Claim(
            "real",
            "So a GAN's fakes become nearly indistinguishable from real images.",
            Contrast(
                "how often a classifier tells its samples from real images, beyond chance",
                value("GAN", "two_sample", beyond=0.5),
                ACCURACY,
                "within",
                value("GAN", "two_sample_pixels", beyond=0.5),
            ),
            (crisp("GAN"),),
        ),
    ),
    panels=tuple(
        Panel(
            "share that score lower",
            f"fault as large as a blur of {sigma:g} px",
            tuple(
                Series(name, _noticed(name, sigma), {name: "GAN"}) for name in ("blur", "noise", "contrast", "shift")
            ),
            0.5,
        )
        for sigma in _SIGMAS
    ),
    measure=_measure,
)
