"""Detail of the right power that isn't the image's: a sum of faults that cancel, or invention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hfgen.diagnosis.gates.alignment import MISPLACED
from hfgen.diagnosis.gates.context import Context, brightness
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.gates.fourier import transform
from hfgen.diagnosis.gates.patterns import harmonics, is_high, without
from hfgen.metrics import Estimate
from hfgen.metrics.intervals import bootstrap_of_means

_SHARP, _MUCH, _COUNTS = 0.7, 0.5, 0.1
# Of what is lost: of less, the blur is seen.
_MADE_UP = 0.5
_HIGH_POWER = "high-frequency power"


def detail(context: Context) -> Iterator[Finding]:
    """Power and coherence above .25 cycles/pixel, between a pattern's harmonics and without white noise."""
    if not context.reconstructs or context.broken("range", "constant"):
        return
    faults = [found for found in context.found if found.severity in ("fault", "warning")]
    noise = sum(found.share or 0.0 for found in faults if found.name == "white_noise")
    board = sum(found.share or 0.0 for found in faults if found.name == "pattern")
    pattern = board > _COUNTS
    powers = _powers(context, pattern)
    if float(powers[:, 0].mean()) <= 0 or float(powers[:, 1].mean()) <= 0:
        return
    power, false = bootstrap_of_means(powers, _measures, seed=context.seed)
    if pattern or noise:
        value, low, high = (1 + noise - end for end in (power.value, power.high, power.low))
        lost = Estimate(value, low, high, power.n)
        yield check(
            "masked_blur",
            lost,
            "share of the high-frequency power that is missing beside the pattern or noise that makes up for it",
            warning=1 - _SHARP,
            fault=1 - _SHARP,
            text="Reconstructions are blurred as well: a pattern or noise adds the power that blur takes away, so that "
            "sharpness scores look right.",
            remedy="judge by gain and coherence instead of sharpness scores; remove the pattern or the noise, then "
            "diagnose again",
            share=min(lost.value, 1.0),
            of=_HIGH_POWER,
            telling=noise + board > _MADE_UP * lost.value,
        )
    elif power.low > _MUCH and not context.broken("over_sharpened", *MISPLACED):
        yield check(
            "invented_detail",
            false,
            "share of the reconstructions' high-frequency power that doesn't follow from the image",
            warning=0.3,
            fault=0.5,
            text="Reconstructions are crisp and their detail is another than the image's: it is made up.",
            remedy=f"hfgen train {context.recipe} --data {context.data} with a larger --model.latent_channels or "
            "--model.latent_size, or a lower --model.adversarial_weight",
            share=false.value,
            of=_HIGH_POWER,
        )


def _measures(means: Tensor) -> Tensor:
    """Power, and 1 - gain: what a conditional mean has none of, however blurred."""
    real, made, product = means.unbind(-1)
    return torch.stack([made / real, 1 - product / made], -1)


def _powers(context: Context, pattern: bool) -> Tensor:
    """Of originals, of reconstructions, and of their product (N, 3); where there is a pattern, off its harmonics."""
    real, made = (
        transform(brightness(part), context.window) for part in (context.inputs, context.correct(context.outputs))
    )
    side = real.shape[-1]
    bins = without(is_high(side), harmonics(side, context.factor) if pattern else (), reach=1)
    pairs = ((real, real), (made, made), (real, made))
    return torch.stack([(first * second.conj()).real[:, bins].sum(1) for first, second in pairs], 1)
