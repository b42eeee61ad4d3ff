"""The ablation of pix2pix (Isola et al., 1611.07004, section 4.2): five objectives, and the patch that is judged."""

from __future__ import annotations

from hfgen.studies.cells import Cell
from hfgen.studies.claims import Claim, Contrast, Panel, Series, Study, crisp
from hfgen.studies.effects import power_difference, psnr_difference
from hfgen.studies.verdicts import POWER, PSNR

_SMALL = (
    "--model.max_width=64",
    "--model.width=16",
    "--model.discriminator_width=32",
    "--model.discriminator_max_width=64",
)
_OBJECTIVES = ("l1", "gan", "cgan", "l1+gan", "l1+cgan")
_PATCHES = (1, 16)


def _pix2pix(objective: str, patch: int = 16) -> Cell:
    return Cell("pix2pix", (*_SMALL, f"--model.objective={objective}", f"--model.patch={patch}"), part=0.5)


_CELLS = {objective: _pix2pix(objective) for objective in _OBJECTIVES}
_CELLS |= {f"l1+cgan, patch {patch}": _pix2pix("l1+cgan", patch) for patch in _PATCHES if patch != 16}
_TICKS = {objective: objective for objective in _OBJECTIVES}
_PATCH_TICKS = {str(patch): "l1+cgan" if patch == 16 else f"l1+cgan, patch {patch}" for patch in _PATCHES}
_TESTED = (crisp("l1+cgan", "hf_ratio_reconstruction"),)

STUDY = Study(
    name="translation",
    question="Does pix2pix's ablation say so?",
    variable="the objective, and the side of the patch that the discriminator judges",
    metric="high-frequency power and PSNR of images that were made from edges",
    cells=_CELLS,
    claims=(
        Claim(
            "detail",
            "L1 alone blurs; with a conditional adversary, the same translator brings more detail.",
            Contrast(
                "the power that a conditional adversary adds to L1",
                power_difference("l1+cgan", "l1"),
                POWER,
                "above",
            ),
            _TESTED,
        ),
        Claim(
            "price",
            "The detail that the adversary brings costs error.",
            Contrast("the dB that the adversary costs", psnr_difference("l1", "l1+cgan"), PSNR, "above"),
            _TESTED,
        ),
        Claim(
            "blind",
            "An adversary that doesn't see the input is free to ignore it.",
            Contrast("the dB that seeing the input gains", psnr_difference("cgan", "gan"), PSNR, "above"),
            (crisp("cgan", "hf_ratio_reconstruction"), crisp("gan", "hf_ratio_reconstruction")),
        ),
    ),
    panels=(
        Panel("high-frequency power", "objective", (Series("translations", "hf_ratio_reconstruction", _TICKS),), 1.0),
        Panel("PSNR, dB", "objective", (Series("translations", "psnr", _TICKS),)),
        Panel(
            "high-frequency power",
            "patch of l1+cgan, px",
            (Series("translations", "hf_ratio_reconstruction", _PATCH_TICKS),),
            1.0,
        ),
    ),
)
