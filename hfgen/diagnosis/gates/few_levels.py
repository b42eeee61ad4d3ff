"""Outputs of few levels of brightness: a palette, a small integer type, or rounding on the way."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check

_FAULT, _WARNING = 0.7, 0.5
# Of each image and channel, so many pixels are looked at.
_NEARLY = 0.98


def few_levels(context: Context) -> Iterator[Finding]:
    """How many of 256 levels an image needs for 98 % of its pixels, against its original at the same contrast.

    A lower contrast leaves fewer levels, but none out between the darkest and the brightest.
    """
    if not context.reconstructs or context.broken("constant"):
        return
    (made, narrow), (real, wide) = (_levels(images) for images in (context.outputs, context.inputs))
    expected = (real * (narrow / wide).clamp_max(1)).clamp_min(1)
    made, expected = made.mean(1), expected.mean(1)
    fewer = metrics.bootstrap_ratio(expected - made, expected, seed=context.seed, paired=True)
    yield check(
        "few_levels",
        fewer,
        "share of the originals' levels of brightness that reconstructions of their contrast don't have",
        warning=_WARNING,
        fault=_FAULT,
        text=f"Reconstructions have {float(made.mean()):.0f} levels of brightness, and the originals at the same "
        f"contrast {float(expected.mean()):.0f}: values are rounded on the way.",
        remedy="look for a small integer type, a palette or rounding after the decoder; keep floats until images are "
        "written",
        share=fewer.value,
        of="levels of brightness",
    )


def _levels(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of (N, C, H, W) in any range, twice (N, C): levels that hold nearly all pixels, and those from dark to bright."""
    low, high = images.aminmax()
    # Steps finer than those of [-1, 1] would find gaps between the levels of 8 bits.
    flat = ((images - low) * (255 / (high - low).clamp_min(2))).round().long().flatten(2)
    counts = flat.new_zeros((*flat.shape[:2], 256)).scatter_add_(2, flat, flat.new_ones(()).expand_as(flat))
    pixels, left_out = flat.shape[-1], (1 - _NEARLY) / 2 * flat.shape[-1]
    held = counts.sort(-1, descending=True).values.cumsum(-1)
    below = counts.cumsum(-1)
    span = (below < pixels - left_out).sum(-1) - (below <= left_out).sum(-1) + 1
    return ((held < _NEARLY * pixels).sum(-1) + 1).double(), span.double()
