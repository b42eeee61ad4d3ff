"""What happened to the data before any model saw them: resized, compressed, grey kept as colour."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hfgen.diagnosis.data_quality import compressed
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.metrics import Estimate, luma
from hfgen.metrics.intervals import bootstrap_of_means, wilson

_PERIODS = (2, 3, 4)
_FAULT = 1.5
_BLOCK = 8
# Of a step, by rounding both ends to 256 levels.
_ROUNDING = 2 / (12 * 255**2)


def history(context: Context) -> Iterator[Finding]:
    """Traces of enlarging, by the steps between neighbours, which repeat as the original's pixels do (Gallagher 2005).

    Smooth images alone are no trace: the world has smooth things. That they are smooth is said, and is no fault.
    """
    values = luma(context.images)
    ratio, period = _periodic(values, compressed(context.quality), context.seed)
    enlarged = ratio.low > _FAULT
    lost = 1 - context.quality.kept
    source = "take the originals, or train at a lower --resolution; `--small_images upscale` makes such images"
    yield check(
        "data",
        ratio,
        f"how many times larger steps between neighbours are at one place of every {period} than at another",
        warning=_FAULT,
        fault=_FAULT,
        text=f"The data were enlarged from a lower resolution: they lack {lost:.0%} of the detail that their pixels "
        "could hold, and no model can be sharper than that.",
        remedy=source,
        share=lost,
        of="high-frequency power",
    )
    if context.quality.blurred and not enlarged:
        yield Finding(
            "smooth_data",
            Estimate(context.quality.blur, context.quality.blur, context.quality.blur, len(values)),
            "deviation of the blur that would explain the images' spectrum, in pixels",
            0.64,
            "warning",
            "The images are smooth: either their subjects are, or they were blurred. No model can be sharper.",
            "nothing, if the subjects are smooth; else take the originals",
        )
    if compressed(context.quality) and not enlarged:
        yield Finding(
            "compressed_data",
            Estimate(context.quality.jpeg, context.quality.jpeg, context.quality.jpeg, len(values)),
            "how many times larger steps are across the borders of 8 x 8 blocks than within",
            1.6,
            "warning",
            f"Neighbours differ {context.quality.jpeg:.1f} times as much across the borders of 8 x 8 blocks as "
            "within: the data was compressed as JPEG, whose lost detail no model can learn.",
            "take originals, or a higher quality",
        )
    yield from _colour(context.images)


def _periodic(values: Tensor, blocks: bool, seed: int) -> tuple[Estimate, int]:
    """The largest ratio of steps over the periods, of the axis on which it is smaller; and its period."""
    found = []
    for period in _PERIODS:
        ratios = [_ratio(lines, period, blocks, seed) for lines in (values, values.mT)]
        found.append((min(ratios, key=lambda ratio: ratio.low), period))
    return max(found, key=lambda pair: pair[0].low)


def _ratio(values: Tensor, period: int, blocks: bool, seed: int) -> Estimate:
    """Mean squared steps along lines at the place of a period where they are largest, over where they are smallest."""
    steps = values.diff(dim=-1).square().mean(1)
    places = torch.arange(steps.shape[-1])
    if blocks:  # Steps across their borders have a period as well.
        places = places[(places + 1) % _BLOCK > 0]
    steps, places = steps[:, places], places % period
    means = torch.stack([steps[:, places == place].mean(1) for place in range(period)], 1) + _ROUNDING
    overall = means.mean(0)
    pair = torch.stack([means[:, int(overall.argmax())], means[:, int(overall.argmin())]], 1)
    (ratio,) = bootstrap_of_means(pair, lambda m: m[:, :1] / m[:, 1:], seed=seed)
    return ratio


def _colour(images: Tensor) -> Iterator[Finding]:
    if images.shape[1] != 3:
        return
    grey = (images.amax(1).short() - images.amin(1).short()).flatten(1).amax(1) <= 2
    share = wilson(float(grey.double().mean()), len(grey))
    yield check(
        "grey_data",
        share,
        "share of the images that are grey and kept as colour",
        warning=0.9,
        text="The images have three channels and no colour.",
        remedy="train with --channels 1: a third of the numbers, and no colour that can go wrong",
    )
