"""Does blur follow the size of the latent, and does it for a GAN?"""

from __future__ import annotations

from hfgen.studies import shared_cells
from hfgen.studies.claims import Claim, Criterion, Panel, Series, Study, difference, value

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
            "A VAE's small latent can't carry the image; what comes out is a mean over what it leaves open, blurred.",
            (
                Criterion(
                    "the power that reconstructions gain from a latent of 64 over one of 4",
                    difference("VAE 64", "VAE 4", "hf_ratio_reconstruction"),
                    above=0.1,
                ),
                Criterion("the gain of reconstructions at a latent of 4", value("VAE 4", "gain_high"), above=0.95),
                Criterion("the gain of reconstructions at a latent of 4", value("VAE 4", "gain_high"), below=1.05),
            ),
        ),
        Claim(
            "With a wide spatial latent, reconstructions become good.",
            (
                Criterion(
                    "the power of reconstructions through 4x4x8 numbers",
                    value("VAE 4x4x8", "hf_ratio_reconstruction"),
                    above=0.7,
                ),
            ),
        ),
        Claim(
            "But a GAN makes its images from as few numbers, so the size alone isn't the reason.",
            (
                Criterion(
                    "the power of samples of a GAN over those of a VAE, both of 16 numbers",
                    difference("GAN 16", "VAE 16", "hf_ratio_sample"),
                    above=0.1,
                ),
                Criterion("the power of samples of a GAN of 4 numbers", value("GAN 4", "hf_ratio_sample"), above=0.5),
            ),
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
