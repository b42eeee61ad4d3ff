"""Is a VQ-VAE's blur the limited codebook?

D ~ K^(-2/d) of theory isn't asked: it is the distortion of one fixed source, and each cell here has its own encoder.
"""

from __future__ import annotations

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.diagnosis.interventions import from_unquantised
from hfgen.metrics import Estimate
from hfgen.studies import shared_cells
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study
from hfgen.studies.effects import power_difference, value
from hfgen.studies.verdicts import GAIN, POWER

_SIZES = (4, 32, 256, 1024, 4096)
_CELLS = {f"{size} codes": shared_cells.vqvae(f"--model.codes={size}") for size in _SIZES}
_TICKS = {str(size): f"{size} codes" for size in _SIZES}


def _measure(trained: Trained) -> dict[str, Estimate]:
    """Reconstructions of the same decoder from latents that no code replaced, and what the codes do to latents."""
    originals = trained.evaluation.originals
    free = from_unquantised(Autoencoder(trained.pipeline.vqvae), originals)
    return {
        "hf_ratio_bypass": trained.gained(free, trained.reconstructions),
        "hf_ratio_unquantised": trained.sharpness(free, paired=True),
        "psnr_unquantised": metrics.bootstrap_mean(metrics.capped_psnr(originals, free), seed=0),
    }


STUDY = Study(
    name="codebook",
    question="Is it the limited codebook of a VQ-VAE?",
    variable="codes in the codebook, 4x4 of which make an image",
    metric="high-frequency power and PSNR of reconstructions, with the quantiser and past it",
    cells=_CELLS,
    claims=(
        Claim(
            "limited",
            "A limited codebook maps many images to one, at the price of detail: more codes, less blur.",
            Contrast(
                "the power that 1024 codes add to 4",
                power_difference("1024 codes", "4 codes"),
                POWER,
                "above",
            ),
        ),
        Claim(
            "mean",
            "... and what comes out is the mean of the images that share their codes.",
            Contrast(
                "the gain of reconstructions from 4 codes beyond 1, a conditional mean's",
                value("4 codes", "gain_high", beyond=1.0),
                GAIN,
                "within",
            ),
            beside=(
                Beside("its coherence: the share of real detail that is known", value("4 codes", "coherence_high")),
                Beside(
                    "its power, which is a mean's where it equals that", value("4 codes", "hf_ratio_reconstruction")
                ),
            ),
        ),
        Claim(
            "bypass",
            "Quantisation is what a VQ-VAE has for noise: past the quantiser, the same decoder is sharper.",
            Contrast(
                "the power that the decoder gains past a quantiser of 256 codes",
                value("256 codes", "hf_ratio_bypass"),
                POWER,
                "above",
            ),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "codes",
            (
                Series("reconstructions", "hf_ratio_reconstruction", _TICKS),
                Series("past the quantiser", "hf_ratio_unquantised", _TICKS),
                Series("samples", "hf_ratio_sample", _TICKS),
            ),
            1.0,
        ),
        Panel(
            "PSNR of reconstructions, dB",
            "codes",
            (
                Series("reconstructions", "psnr", _TICKS),
                Series("past the quantiser", "psnr_unquantised", _TICKS),
            ),
        ),
        Panel("codes in effective use", "codes", (Series("perplexity", "codebook_perplexity", _TICKS),)),
    ),
    measure=_measure,
)
