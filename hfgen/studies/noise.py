"""What does the noise on the latent cost: its weight in training, and its draw in use?"""

from __future__ import annotations

import math
from typing import Any

import torch

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.diagnosis.interventions import from_samples
from hfgen.metrics import Estimate
from hfgen.studies import shared_cells
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Claim, Contrast, Panel, Series, Study, above_linear
from hfgen.studies.effects import power_difference, value
from hfgen.studies.verdicts import POWER, PSNR

_WEIGHTS = {
    "0": shared_cells.NOISELESS,
    "1": shared_cells.L2,
    "10": shared_cells.vae("--model.kl_weight=10"),
}
_CELLS = {f"KL x {weight}": cell for weight, cell in _WEIGHTS.items()}
_TICKS = {weight: f"KL x {weight}" for weight in _WEIGHTS}


def _measure(trained: Trained) -> dict[str, Estimate]:
    """Reconstructions from samples of the posterior, and what the best linear VAE would reach."""
    originals = trained.evaluation.originals
    noisy = from_samples(Autoencoder(trained.pipeline.vae), originals, seed=0)
    psnr = metrics.capped_psnr(originals, noisy)
    model: Any = trained.config.model
    numbers = model.latent_channels * model.latent_size**2
    return {
        "hf_ratio_noisy": trained.sharpness(noisy, paired=True),
        "hf_ratio_denoised": trained.gained(trained.reconstructions, noisy),
        "psnr_noisy": metrics.bootstrap_mean(psnr, seed=0),
        "psnr_denoised": metrics.bootstrap_mean(trained.psnr - psnr, seed=0),
        "psnr_linear": _linear(trained, model.kl_weight * model.variance, numbers),
    }


def _linear(trained: Trained, variance: float, numbers: int) -> Estimate:
    """PSNR of the optimal linear VAE, probabilistic PCA, at a pixel variance (Lucas et al., 1911.02469).

    Of the covariance's eigenvalues, the largest keep an error of at most the variance, and all others are lost.
    """
    images = trained.evaluation.originals.double().flatten(1) / 127.5
    values = torch.linalg.eigvalsh(images.T.cov()).flip(0).clamp_min(0)
    error = float(values[:numbers].clamp_max(variance).sum() + values[numbers:].sum()) / images.shape[1]
    psnr = 10 * math.log10(4 / error)
    return Estimate(psnr, psnr, psnr, len(images))


STUDY = Study(
    name="noise",
    question="Is it the noise on the encoder's output?",
    variable="weight of the KL term, at a pixel variance of .02 and 16 numbers",
    metric="high-frequency power and PSNR of reconstructions, from the posterior's mean and from its samples",
    cells=_CELLS,
    claims=(
        Claim(
            "training",
            "Training with noise on the latent, which makes it interpolable and diverse, costs detail.",
            Contrast(
                "the power that reconstructions gain without noise",
                power_difference("KL x 0", "KL x 1"),
                POWER,
                "above",
            ),
            (above_linear("KL x 1"),),
        ),
        Claim(
            "error",
            "The noise on the latent comes at the price of error.",
            Contrast(
                "the dB that the mean of the posterior gains over a sample",
                value("KL x 1", "psnr_denoised"),
                PSNR,
                "above",
            ),
            (above_linear("KL x 1"),),
        ),
        Claim(
            "sample",
            "The noise itself is the blur: a sample of the posterior decodes to less detail than its mean.",
            Contrast(
                "the power that the mean of the posterior has beyond a sample",
                value("KL x 1", "hf_ratio_denoised"),
                POWER,
                "above",
            ),
            (above_linear("KL x 1"),),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "weight of the KL term",
            (
                Series("posterior's mean", "hf_ratio_reconstruction", _TICKS),
                Series("posterior's sample", "hf_ratio_noisy", _TICKS),
                Series("samples of the prior", "hf_ratio_sample", _TICKS),
            ),
            1.0,
        ),
        Panel(
            "PSNR of reconstructions, dB",
            "weight of the KL term",
            (
                Series("posterior's mean", "psnr", _TICKS),
                Series("posterior's sample", "psnr_noisy", _TICKS),
                Series("best linear VAE", "psnr_linear", _TICKS),
            ),
        ),
    ),
    measure=_measure,
)
