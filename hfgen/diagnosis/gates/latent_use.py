"""How much of the latent is in use: units that never move, codes that never occur."""

from __future__ import annotations

from collections.abc import Iterator

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.interventions import inputs_of
from hfgen.metrics import Estimate
from hfgen.metrics.intervals import wilson

_STILL = 1e-8
_ENOUGH = 5


def units(context: Context) -> Iterator[Finding]:
    """Numbers of a continuous latent that don't depend on the image."""
    if context.network is None or context.network.traits.quantised:
        return
    means = context.latents.mean
    numbers = means[0].numel()
    if context.latents.deviation is not None:
        active = metrics.active_units_interval(means)
        idle = Estimate(1 - active.value / numbers, 1 - active.high / numbers, 1 - active.low / numbers, active.n)
        kind = "the posterior is the prior there (posterior collapse)"
    else:
        variances = means.double().flatten(1).var(0)
        still = float((variances < _STILL * variances.max()).double().mean())
        idle, kind = wilson(still, numbers), "the encoder doesn't use them"
    yield check(
        "inactive_units",
        idle,
        f"share of the latent's {numbers} numbers that don't depend on the image",
        warning=0.5,
        fault=0.95,
        text=f"Most numbers of the latent carry nothing: {kind}.",
        remedy="train with a lower --model.kl_weight or --model.free_bits 0.1; a larger latent won't help",
        share=idle.value,
        of="latent's numbers",
    )


def codes(context: Context) -> Iterator[Finding]:
    """Codes that never occur, where there are images enough to tell."""
    if context.pipeline is None or not context.pipeline.codebook_size:
        return
    size = context.pipeline.codebook_size
    found = context.pipeline.codes(inputs_of(context.network, context.real))
    if found is None or found.numel() < _ENOUGH * size:
        return
    use = metrics.codebook_use(found.cpu(), size).usage
    dead = Estimate(1 - use.value, 1 - use.high, 1 - use.low, use.n)
    yield check(
        "dead_codes",
        dead,
        f"share of the {size} codes that never occur",
        warning=0.5,
        fault=0.9,
        text="Most codes are dead: the codebook is smaller than it looks.",
        remedy="train with a lower --model.codebook_decay or fewer --model.codes",
        share=dead.value,
        of="codes",
    )
