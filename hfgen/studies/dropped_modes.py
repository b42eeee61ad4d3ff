"""Who drops modes, of a thousand that are known?"""

from __future__ import annotations

import math

import torch

from hfgen import metrics
from hfgen.evaluation.passes import generate
from hfgen.metrics import Estimate
from hfgen.metrics.modes import IMAGES_PER_MODE
from hfgen.seeds import derive_seed
from hfgen.studies import shared_cells
from hfgen.studies.cells import BUDGETS, Trained
from hfgen.studies.claims import Claim, Contrast, Panel, Series, Study, crisp
from hfgen.studies.effects import difference
from hfgen.studies.verdicts import MODES, MODES_KL

_STACKED = ("--channels=3",)
_CELLS = {
    "VAE": shared_cells.vae(*_STACKED, data="stacked"),
    "VQ-VAE": shared_cells.vqvae(*_STACKED, data="stacked"),
    "GAN": shared_cells.gan(*_STACKED, data="stacked"),
    "ALI": shared_cells.ali(*_STACKED, data="stacked"),
}
_TICKS = {name: name for name in _CELLS}
_DRAWN_AT_ONCE = 1000


def _measure(trained: Trained) -> dict[str, Estimate]:
    """Modes of 26 samples for each that is known; with less than the full budget, of as many as were evaluated."""
    evaluation = trained.evaluation
    judge, count = trained.judge, len(evaluation.originals)
    assert judge.mode_counts is not None, "of an evaluation on classes"
    few = count < BUDGETS["full"].n
    recogniser = metrics.recogniser(judge, evaluation.originals)
    total = count if few else IMAGES_PER_MODE * len(judge.mode_counts)
    seeds = [derive_seed("modes", trained.config.seed, index) for index in range(total)]
    parts = (seeds[first : first + _DRAWN_AT_ONCE] for first in range(0, total, _DRAWN_AT_ONCE))
    found = torch.cat([recogniser.classes(generate(trained.pipeline, part)) for part in parts])
    use = metrics.modes_intervals(judge.mode_counts, found, images_per_mode=0 if few else IMAGES_PER_MODE)
    # Where no sample is of any mode, what one mode alone would have.
    worst = math.log(len(judge.mode_counts))
    kl = use.kl or Estimate(worst, worst, worst, total)
    return {"modes": use.hit, "modes_rejected": use.rejected, "modes_kl": kl}


STUDY = Study(
    name="modes",
    question="Does the GAN pay with modes?",
    variable="the family, on stacked digits: 1000 known modes",
    metric="modes that 26,000 samples hit, how unevenly (KL), and coverage",
    cells=_CELLS,
    claims=(
        Claim(
            "codes",
            "A GAN drops modes, because that makes fooling easier; a VQ-VAE with its prior doesn't.",
            Contrast(
                "the modes that samples of the VQ-VAE hit beyond those of the GAN",
                difference("VQ-VAE", "GAN", "modes"),
                MODES,
                "above",
            ),
            (crisp("GAN"),),
        ),
        Claim(
            "vae",
            "... and neither does a VAE.",
            Contrast(
                "the modes that samples of the VAE hit beyond those of the GAN",
                difference("VAE", "GAN", "modes"),
                MODES,
                "above",
            ),
            (crisp("GAN"),),
        ),
        Claim(
            "even",
            "A GAN uses its modes less evenly than a VQ-VAE.",
            Contrast(
                "the KL of the GAN's modes beyond the VQ-VAE's",
                difference("GAN", "VQ-VAE", "modes_kl"),
                MODES_KL,
                "above",
            ),
            (crisp("GAN"),),
        ),
    ),
    panels=(
        Panel("modes hit", "family", (Series("samples", "modes", _TICKS),)),
        Panel("share that is of no mode", "family", (Series("samples", "modes_rejected", _TICKS),)),
        Panel("KL of modes", "family", (Series("samples", "modes_kl", _TICKS),)),
        Panel(
            "share",
            "family",
            (Series("coverage", "coverage", _TICKS), Series("recall", "recall", _TICKS)),
        ),
        Panel("high-frequency power", "family", (Series("samples", "hf_ratio_sample", _TICKS),), 1.0),
    ),
    measure=_measure,
)
