"""Does blur follow the size of the latent, and does it for a GAN?"""

from __future__ import annotations

from hfgen.studies import shared_cells
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study, above_linear, crisp
from hfgen.studies.effects import difference, power_difference, value
from hfgen.studies.verdicts import GAIN, POWER

# Little noise, so that the latent's size is the limit and not the posterior's width.
_QUIET = ("--model.variance=0.002", "--model.lr=2e-3")
# Channels of a grid of 2x2.
_SIZES = {4: 1, 8: 2, 16: 4, 32: 8, 64: 16}
_SPATIAL = (*_QUIET, "--model.latent_size=4", "--model.latent_channels=8", "--model.kl_weight=0.1")

_CELLS = {
    **{f"VAE {size}": shared_cells.vae(*_QUIET, f"--model.latent_channels={c}") for size, c in _SIZES.items()},
    "VAE 4x4x8": shared_cells.vae(*_SPATIAL),
    **{f"GAN {size}": shared_cells.gan(f"--model.latent_channels={c}") for size, c in _SIZES.items()},
}
_VAE_TICKS = {str(size): f"VAE {size}" for size in _SIZES} | {"128 (4x4x8)": "VAE 4x4x8"}
_GAN_TICKS = {str(size): f"GAN {size}" for size in _SIZES}

STUDY = Study(
    name="bottleneck",
    question="Is the latent too small for the image?",
    variable="numbers in the latent, for an L2 and for an adversarial objective",
    metric="high-frequency power relative to real images",
    cells=_CELLS,
    claims=(
        Claim(
            "small",
            "The smaller a VAE's latent, the more detail its images lack: it can't pass the bottleneck.",
            Contrast(
                "the power of reconstructions from 64 numbers beyond that from 4",
                power_difference("VAE 64", "VAE 4"),
                POWER,
                "above",
            ),
            (above_linear("VAE 4"),),
        ),
        Claim(
            "mean",
            "... and what comes out is a mean over what the latent leaves open.",
            Contrast(
                "the gain of reconstructions from 4 numbers beyond 1, a conditional mean's",
                value("VAE 4", "gain_high", beyond=1.0),
                GAIN,
                "within",
            ),
            (above_linear("VAE 4"),),
            (
                Beside("its coherence: the share of real detail that is known", value("VAE 4", "coherence_high")),
                Beside("its power, which is a mean's where it equals that", value("VAE 4", "hf_ratio_reconstruction")),
            ),
        ),
        Claim(
            "wide",
            "A wide spatial latent brings the detail back.",
            Contrast(
                "the power of reconstructions through 4x4x8 numbers beyond that through 2x2x4",
                power_difference("VAE 4x4x8", "VAE 16"),
                POWER,
                "above",
            ),
            (above_linear("VAE 16"),),
            (Beside("the power through 4x4x8", value("VAE 4x4x8", "hf_ratio_reconstruction")),),
        ),
        Claim(
            "gan",
            "But a GAN makes its images from as few numbers, and they are crisper: the size alone isn't the reason.",
            Contrast(
                "the power of samples of a GAN of 4 numbers beyond that of samples of a VAE of 4",
                difference("GAN 4", "VAE 4", "hf_ratio_sample"),
                POWER,
                "above",
            ),
            (crisp("GAN 4"),),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "numbers in the latent",
            (
                Series("VAE, reconstructions", "hf_ratio_reconstruction", _VAE_TICKS),
                Series("VAE, samples", "hf_ratio_sample", _VAE_TICKS),
                Series("GAN, samples", "hf_ratio_sample", _GAN_TICKS),
            ),
            1.0,
        ),
    ),
)
