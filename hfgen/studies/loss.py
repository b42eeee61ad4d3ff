"""One encoder, one latent, one decoder: what does the objective make of them?

That crispness costs at most 3 dB isn't asked: the bound is for the best decoder of perfect realism, which none of these
is, in expected squared error.
"""

from __future__ import annotations

from hfgen.studies import shared_cells
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study, above_linear, crisp
from hfgen.studies.effects import power_difference, psnr_difference, value
from hfgen.studies.verdicts import GAIN, POWER, PSNR

_CELLS = {
    "L2": shared_cells.L2,
    "L1": shared_cells.vae("--model.likelihood=laplace", "--model.variance=0.08"),
    "L2 + perceptual": shared_cells.vaegan("--model.adversarial_weight=0", "--model.perceptual=embedded"),
    "L2 + adversarial": shared_cells.ADVERSARIAL,
    "adversarial": shared_cells.ALI,
}
_TICKS = {name: name for name in _CELLS}
_TESTED = (crisp("L2 + adversarial", "hf_ratio_reconstruction"), above_linear("L2"))

STUDY = Study(
    name="loss",
    question="Is it the L1 or L2 loss?",
    variable="the objective; networks and the latent of 16 numbers stay",
    metric="high-frequency power and PSNR of reconstructions",
    cells=_CELLS,
    claims=(
        Claim(
            "blur",
            "What the L2 loss leaves is blurred.",
            Contrast(
                "the power of reconstructions with L2 beyond that of real images",
                value("L2", "hf_ratio_reconstruction", beyond=1.0),
                POWER,
                "below",
            ),
            (above_linear("L2"),),
            (Beside("the same with L1", value("L1", "hf_ratio_reconstruction", beyond=1.0)),),
        ),
        Claim(
            "mean",
            "... because the loss is least for an average of all plausible outputs.",
            Contrast(
                "the gain of reconstructions with L2 beyond 1, a conditional mean's",
                value("L2", "gain_high", beyond=1.0),
                GAIN,
                "within",
            ),
            (above_linear("L2"),),
            (
                Beside("its coherence: the share of real detail that is known", value("L2", "coherence_high")),
                Beside("its power, which is a mean's where it equals that", value("L2", "hf_ratio_reconstruction")),
                Beside("the gain with L1, whose least is a median", value("L1", "gain_high")),
            ),
        ),
        Claim(
            "adversary",
            "A learnt, adversarial loss doesn't tolerate blur: the same networks become crisper.",
            Contrast(
                "the power that an adversary adds to L2",
                power_difference("L2 + adversarial", "L2"),
                POWER,
                "above",
            ),
            _TESTED,
        ),
        Claim(
            "invented",
            "Part of the detail that the adversary brings is made up.",
            Contrast(
                "the gain of reconstructions with an adversary beyond 1",
                value("L2 + adversarial", "gain_high", beyond=1.0),
                GAIN,
                "below",
            ),
            _TESTED,
            (
                Beside(
                    "its coherence: the share of real detail that is known", value("L2 + adversarial", "coherence_high")
                ),
            ),
        ),
        Claim(
            "price",
            "Crispness is paid with error.",
            Contrast(
                "the dB that the adversary costs",
                psnr_difference("L2", "L2 + adversarial"),
                PSNR,
                "above",
            ),
            _TESTED,
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
