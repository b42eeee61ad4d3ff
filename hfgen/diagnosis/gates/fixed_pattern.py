"""What is added to every image alike: seams, borders, watermarks, dead rows and pixels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from hfgen.diagnosis.gates.alignment import MISPLACED
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.gates.patterns import harmonics, without
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 0.25, 0.1
_VISIBLE = 2.0
_LEVELS = 127.5


def fixed_pattern(context: Context) -> Iterator[Finding]:
    """The mean over images of the error, place by place, beyond what so few images leave of a random one.

    Brightness as a whole is the levels' matter, the harmonics of the upsampling are the patterns'.
    """
    if not context.reconstructs or context.broken("range", "constant", *MISPLACED):
        return
    errors = (context.correct(context.outputs) - context.inputs).double()
    alike = _without_harmonics(errors.mean(0), context.factor)
    count = len(errors)
    # Of each image: its part along what the others have alike, and its squared error.
    others = (count * alike - _without_harmonics(errors, context.factor)) / max(count - 1, 1)
    columns = torch.stack([(others * errors).flatten(1).mean(1), errors.square().flatten(1).mean(1)], 1)

    def statistic(means: Tensor) -> Tensor:
        power = means[..., 0].clamp_min(0)
        return torch.stack([power / means[..., 1].clamp_min(1e-12), power.sqrt() * _LEVELS], -1)

    share, amplitude = bootstrap_of_means(columns, statistic, seed=context.seed)
    found = check(
        "fixed_pattern",
        share,
        f"share of the squared error that all reconstructions have alike, {amplitude.value:.1f} of 255 levels",
        warning=_WARNING,
        fault=_FAULT,
        text="The same is added to every reconstruction: a seam, a border, a watermark or broken places.",
        remedy="look at the mean difference, which shows where; check tiling, padding and what is drawn over images",
        share=share.value,
        of="squared error",
        telling=amplitude.low > _VISIBLE,
    )
    if found.severity == "fault":
        context.corrections.append(partial(torch.sub, other=alike.float()))
    yield found


def _without_harmonics(errors: Tensor, factor: int) -> Tensor:
    """Errors (..., R, R) without their mean and without the frequencies of the upsampling's grid."""
    side = errors.shape[-1]
    kept = without(torch.ones(side, side, dtype=torch.bool), [(0, 0), *harmonics(side, factor)])
    return torch.fft.ifft2(torch.fft.fft2(errors) * kept).real
