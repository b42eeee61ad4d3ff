"""Outputs of few levels of brightness: a palette, a small integer type, or rounding on the way."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check

_FAULT, _WARNING = 0.7, 0.5
# Of each image and channel, so many levels hold next to all pixels.
_NEARLY = 0.98


def few_levels(context: Context) -> Iterator[Finding]:
    """How many of 256 levels an image needs for 98 % of its pixels, against its original."""
    if not context.reconstructs or context.broken("constant"):
        return
    made, real = (_levels(images) for images in (context.outputs, context.inputs))
    fewer = metrics.bootstrap_ratio(real - made, real, seed=context.seed, paired=True)
    yield check(
        "few_levels",
        fewer,
        "share of the originals' levels of brightness that reconstructions don't have",
        warning=_WARNING,
        fault=_FAULT,
        text=f"Reconstructions have {float(made.mean()):.0f} levels of brightness and the originals "
        f"{float(real.mean()):.0f}: values are rounded on the way.",
        remedy="look for a small integer type, a palette or rounding after the decoder; keep floats until images are "
        "written",
        share=fewer.value,
        of="levels of brightness",
    )


def _levels(images: Tensor) -> Tensor:
    """Of (N, C, H, W) in any range, (N,): levels that hold nearly all pixels, the mean of the channels."""
    low, high = images.aminmax()
    flat = ((images - low) * (255 / (high - low).clamp_min(1e-12))).round().long().flatten(2)
    counts = flat.new_zeros((*flat.shape[:2], 256)).scatter_add_(2, flat, flat.new_ones(()).expand_as(flat))
    held = counts.sort(-1, descending=True).values.cumsum(-1)
    return ((held < _NEARLY * flat.shape[-1]).sum(-1) + 1).double().mean(1)
