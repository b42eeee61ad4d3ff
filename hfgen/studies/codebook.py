"""Is a VQ-VAE's blur the limited codebook?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.interventions import from_unquantised
from hfgen.diagnosis.networks import encode
from hfgen.images import to_float
from hfgen.metrics import Estimate
from hfgen.objectives.codebook import quantise
from hfgen.studies import models
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Claim, Criterion, Panel, Series, Study, difference, value

_SIZES = (4, 32, 256, 1024, 4096)
_CELLS = {f"{size} codes": models.vqvae(f"--model.codes={size}") for size in _SIZES}
_TICKS = {str(size): f"{size} codes" for size in _SIZES}


def _measure(trained: Trained) -> dict[str, Estimate]:
    """Reconstructions of the same decoder from latents that no code replaced, and what the codes do to latents."""
    originals, vqvae = trained.evaluation.originals, trained.pipeline.vqvae
    free = from_unquantised(vqvae, originals)
    return {
        "hf_ratio_bypass": trained.gained(free, trained.reconstructions),
        "theory_bits": _theory_bits(vqvae, originals),
        "code_bits": _exactly(math.log2(vqvae.config.num_vq_embeddings), len(originals)),
        "hf_ratio_unquantised": trained.sharpness(free, paired=True),
        "psnr_unquantised": metrics.bootstrap_mean(metrics.capped_psnr(originals, free), seed=0),
    }


@torch.no_grad()
def _theory_bits(vqvae: Any, originals: Tensor) -> Estimate:
    """Bits a code that the latents' distortion takes in theory: D ~ K^(-2/d), hence log2 K = d/2 log2 1/D + constant.

    D is the squared error over the latents' variance, d the numbers of a code; of many codes (Zador 1982).
    """
    latents = encode(vqvae, to_float(originals)).mean
    error = latents - quantise(latents, vqvae.quantize.embedding.weight).latents
    spread = latents - latents.mean((0, 2, 3), keepdim=True)
    distortion = metrics.bootstrap_ratio(
        error.square().flatten(1).sum(1), spread.square().flatten(1).sum(1), seed=0, paired=True
    )
    half = latents.shape[1] / 2
    value, low, high = (-half * math.log2(share) for share in (distortion.value, distortion.high, distortion.low))
    return Estimate(value, low, high, distortion.n)


def _exactly(number: float, n: int) -> Estimate:
    return Estimate(number, number, number, n)


STUDY = Study(
    name="codebook",
    question="Is it the limited codebook of a VQ-VAE?",
    variable="codes in the codebook, 4x4 of which make an image",
    metric="high-frequency power and PSNR of reconstructions, with the quantiser and past it",
    cells=_CELLS,
    claims=(
        Claim(
            "A limited codebook maps many images to one, at the price of detail: more codes, less blur.",
            (
                Criterion(
                    "the power that 1024 codes add to 4",
                    difference("1024 codes", "4 codes", "hf_ratio_reconstruction"),
                    above=0.1,
                ),
                Criterion("the averaging identity at 4 codes", value("4 codes", "averaging_identity"), above=0.9),
            ),
        ),
        Claim(
            "Quantisation is what a VQ-VAE has for noise: past the quantiser, the same decoder is sharper.",
            (
                Criterion(
                    "the power that the decoder gains past a quantiser of 256 codes",
                    value("256 codes", "hf_ratio_bypass"),
                    above=0.05,
                ),
            ),
        ),
        Claim(
            "Codes lower the distortion of latents as theory says for many of them, D ~ K^(-2/d): 1024 codes save the "
            "5 bits over 32 that they are longer.",
            (
                Criterion(
                    "the bits by which the distortion of 1024 codes is better than that of 32",
                    difference("1024 codes", "32 codes", "theory_bits"),
                    above=4.0,
                ),
                Criterion(
                    "the bits by which the distortion of 1024 codes is better than that of 32",
                    difference("1024 codes", "32 codes", "theory_bits"),
                    below=6.0,
                ),
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
        Panel(
            "bits a code",
            "codes",
            (
                Series("that the latents' distortion takes in theory", "theory_bits", _TICKS),
                Series("that it has", "code_bits", _TICKS),
            ),
        ),
        Panel("codes in effective use", "codes", (Series("perplexity", "codebook_perplexity", _TICKS),)),
    ),
    measure=_measure,
)
