"""Who drops modes, of a thousand that are known?"""

from __future__ import annotations

from hfgen.studies import models
from hfgen.studies.claims import Claim, Criterion, Panel, Series, Study, difference

_STACKED = ("--channels=3",)
_CELLS = {
    "VAE": models.vae(*_STACKED, data="stacked"),
    "VQ-VAE": models.vqvae(*_STACKED, data="stacked"),
    "GAN": models.gan(*_STACKED, data="stacked"),
    "ALI": models.ali(*_STACKED, data="stacked"),
}
_TICKS = {name: name for name in _CELLS}

STUDY = Study(
    name="modes",
    question="Does the GAN pay with modes?",
    variable="the family, on stacked digits: 1000 known modes",
    metric="modes that samples hit, how unevenly (KL), and coverage",
    cells=_CELLS,
    claims=(
        Claim(
            "A GAN drops modes, because that makes fooling easier; a model of likelihood doesn't.",
            (
                Criterion(
                    "the modes that samples of the VQ-VAE hit beyond those of the GAN",
                    difference("VQ-VAE", "GAN", "modes"),
                    above=0,
                ),
                Criterion(
                    "the modes that samples of the VAE hit beyond those of the GAN",
                    difference("VAE", "GAN", "modes"),
                    above=0,
                ),
            ),
        ),
        Claim(
            "A GAN uses its modes less evenly than a VQ-VAE.",
            (
                Criterion(
                    "the KL of the GAN's modes beyond the VQ-VAE's",
                    difference("GAN", "VQ-VAE", "modes_kl"),
                    above=0,
                ),
            ),
        ),
    ),
    panels=(
        Panel("modes hit", "family", (Series("samples", "modes", _TICKS),)),
        Panel("KL of modes", "family", (Series("samples", "modes_kl", _TICKS),)),
        Panel(
            "share",
            "family",
            (Series("coverage", "coverage", _TICKS), Series("recall", "recall", _TICKS)),
        ),
        Panel("high-frequency power", "family", (Series("samples", "hf_ratio_sample", _TICKS),), 1.0),
    ),
)
