"""Explicit density against implicit: what does a factorised Gaussian's density look like, and is determinism sharp?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.diagnosis.interventions import from_samples
from hfgen.evaluation.passes import encode
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Estimate
from hfgen.objectives.reconstruction import LEVEL
from hfgen.seeds import derive_seed
from hfgen.studies import shared_cells
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Beside, Check, Claim, Contrast, Panel, Series, Study, above_linear, crisp
from hfgen.studies.effects import difference, value
from hfgen.studies.verdicts import ACCURACY, POWER

_CELLS = {
    "VAE": shared_cells.vae("--model.likelihood=calibrated"),
    "autoencoder": shared_cells.NOISELESS,
    "GAN": shared_cells.GAN,
}
_TICKS = {name: name for name in _CELLS}


def _measure(trained: Trained) -> dict[str, Estimate]:
    """The VAE's density, drawn with its pixel noise, and its bits per dimension."""
    evaluation = trained.evaluation
    if getattr(trained.config.model, "likelihood", None) != "calibrated":
        return {}
    posterior = from_samples(Autoencoder(trained.pipeline.vae), evaluation.originals, seed=0)
    errors = (to_float(evaluation.originals) - to_float(posterior)).double().square()
    variance = float(errors.mean())
    noisy = _with_noise(trained.samples, variance, trained.config.seed)
    return {
        "hf_ratio_noisy": trained.sharpness(noisy, paired=False),
        "two_sample_noisy": _told_apart(trained, noisy),
        "two_sample_control": _told_apart(trained, _with_noise(trained.others, variance, trained.config.seed)),
        "bits_per_dim": _bits(trained, errors, variance),
    }


def _with_noise(images: Tensor, variance: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed("pixel noise", seed))
    return to_uint8(to_float(images) + torch.randn(images.shape, generator=generator) * variance**0.5)


def _told_apart(trained: Trained, images: Tensor) -> Estimate:
    """By pixels and spectra, which see white noise on any data; a classifier's features see less of it on some."""
    return metrics.two_sample_test_of_pixels(trained.evaluation.originals, images, trained.window, seed=0)


def _bits(trained: Trained, errors: Tensor, variance: float) -> Estimate:
    """Of the evidence lower bound of the Gaussian with the best single variance."""
    rate = encode(trained.pipeline, trained.evaluation.originals)["rate_bits"].double() * math.log(2)
    logs = -0.5 * (errors / variance + math.log(2 * math.pi * variance)).flatten(1).sum(1)
    return metrics.bootstrap_mean(metrics.bits_per_dim(logs - rate, errors[0].numel(), level=LEVEL), seed=0)


STUDY = Study(
    name="likelihood",
    question="Is it the explicit likelihood, whose pixels are independent given the latent?",
    variable="a density that can be evaluated (VAE), none (GAN), and a mapping without any noise (autoencoder)",
    metric="how well pixels tell samples from real images (.5: not at all), and high-frequency power",
    cells=_CELLS,
    claims=(
        Claim(
            "draws",
            "Maximum likelihood with pixels that are independent given the latent spreads its mass diffusely: draws of "
            "that density are no images.",
            Contrast(
                "how often pixels tell draws with their pixel noise from real images, beyond chance",
                value("VAE", "two_sample_noisy", beyond=0.5),
                ACCURACY,
                "above",
            ),
            (
                Check(
                    "how often pixels tell other real images with that noise from real ones (positive control)",
                    value("VAE", "two_sample_control"),
                    0.9,
                ),
            ),
            (Beside("the same of its samples without pixel noise", value("VAE", "two_sample_pixels", beyond=0.5)),),
        ),
        Claim(
            "mean",
            "What is shown of a VAE is that density's mean, which is blurred.",
            Contrast(
                "the power of samples without pixel noise beyond that of real images",
                value("VAE", "hf_ratio_sample", beyond=1.0),
                POWER,
                "below",
            ),
            (above_linear("VAE"),),
        ),
        Claim(
            "dirac",
            "A GAN is crisp because its mapping has no noise given the latent (a Dirac): an autoencoder without noise "
            "is as crisp.",
            Contrast(
                "the power of the GAN's samples beyond that of the noiseless autoencoder's reconstructions",
                difference("GAN", "autoencoder", "hf_ratio_sample", "hf_ratio_reconstruction"),
                POWER,
                "within",
            ),
            (crisp("GAN"), above_linear("autoencoder")),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "model",
            (
                Series("samples", "hf_ratio_sample", _TICKS),
                Series("samples with their pixel noise", "hf_ratio_noisy", {"VAE": "VAE"}),
                Series(
                    "reconstructions",
                    "hf_ratio_reconstruction",
                    {name: name for name in ("VAE", "autoencoder")},
                ),
            ),
            1.0,
        ),
        Panel(
            "told from real images by pixels",
            "model",
            (
                Series("samples", "two_sample_pixels", _TICKS),
                Series("samples with their pixel noise", "two_sample_noisy", {"VAE": "VAE"}),
                Series("real images with that noise", "two_sample_control", {"VAE": "VAE"}),
            ),
            0.5,
        ),
    ),
    measure=_measure,
)
