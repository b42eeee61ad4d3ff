"""One encoder, one latent, one decoder: what does the objective make of them?

That crispness costs at most 3 dB isn't asked: the bound is for the best decoder of perfect realism, which none of these
is, in expected squared error.
"""

from __future__ import annotations

from hfgen.studies import shared_cells
from hfgen.studies.claims import Claim, Criterion, Panel, Series, Study, difference, psnr_difference, value

_CELLS = {
    "L2": shared_cells.L2,
    "L1": shared_cells.vae("--model.likelihood=laplace", "--model.variance=0.08"),
    "L2 + perceptual": shared_cells.vaegan("--model.adversarial_weight=0", "--model.perceptual=embedded"),
    "L2 + adversarial": shared_cells.ADVERSARIAL,
    "adversarial": shared_cells.ALI,
}
_TICKS = {name: name for name in _CELLS}

STUDY = Study(
    name="loss",
    question="Is it the L1 or L2 loss?",
    variable="the objective; networks and the latent of 16 numbers stay",
    metric="high-frequency power and PSNR of reconstructions",
    cells=_CELLS,
    claims=(
        Claim(
            "The L1 or L2 loss is least for an average of all plausible outputs, and that is blur.",
            (
                Criterion("the power that L2 leaves", value("L2", "hf_ratio_reconstruction"), below=0.7),
                Criterion("the power that L1 leaves", value("L1", "hf_ratio_reconstruction"), below=0.7),
                Criterion("the gain of reconstructions with L2", value("L2", "gain_high"), above=0.95),
                Criterion("the gain of reconstructions with L2", value("L2", "gain_high"), below=1.05),
            ),
        ),
        Claim(
            "A learnt, adversarial loss doesn't tolerate that: the same networks become crisp.",
            (
                Criterion(
                    "the power that an adversary adds to L2",
                    difference("L2 + adversarial", "L2", "hf_ratio_reconstruction"),
                    above=0.05,
                ),
                Criterion(
                    "the gain of reconstructions with an adversary", value("L2 + adversarial", "gain_high"), below=0.95
                ),
            ),
        ),
        Claim(
            "Crispness is paid with error.",
            (Criterion("the dB that an adversary costs", psnr_difference("L2", "L2 + adversarial"), above=0.0),),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "objective",
            (
                Series("reconstructions", "hf_ratio_reconstruction", _TICKS),
                Series("samples", "hf_ratio_sample", _TICKS),
            ),
            1.0,
        ),
        Panel("PSNR of reconstructions, dB", "objective", (Series("reconstructions", "psnr", _TICKS),)),
        Panel(
            "above .25 cycles per pixel",
            "objective",
            (Series("gain", "gain_high", _TICKS), Series("coherence", "coherence_high", _TICKS)),
            1.0,
        ),
    ),
)
