"""Outputs that aren't finite, would not be in float16, or are the same whatever goes in; and where that begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.autoencoders.network_calls import setting
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.interventions import inputs_of
from hfgen.metrics.intervals import wilson

_LARGEST_HALF = 65_504.0
_CONSTANT = 0.98
_ALIKE = 1e-5
_SIDE_BY_SIDE = 2


def finite(context: Context) -> Iterator[Finding]:
    """NaN, infinity, numbers that float16 hasn't, and outputs that don't depend on the image."""
    if context.network is None:
        return
    peaks = _watched(
        context, lambda values: values.abs().nan_to_num(torch.inf, torch.inf).flatten(1).amax(1), context.few
    )
    wrong = context.outputs.flatten(1).isfinite().logical_not().any(1).double()
    place = next((name for name, values in peaks if not values.isfinite().all()), "no layer of a few images")
    yield (
        check(
            "non_finite",
            wilson(float(wrong.mean()), len(wrong)),
            "share of the reconstructions with NaN or infinity",
            warning=0.0,
            fault=0.0,
            text=f"NaN or infinity arises first in {place}.",
            remedy="run it with --dtype fp32; if that doesn't help, take an earlier checkpoint",
        )
        if wrong.any()
        else _all_finite(len(wrong))
    )
    if wrong.any():
        return
    yield _half(context, peaks)
    yield _constant(context)


def _all_finite(count: int) -> Finding:
    return Finding(
        "non_finite", wilson(0.0, count), "share of the reconstructions with NaN or infinity", 0.0, "passed",
        "All outputs are finite.", "",
    )  # fmt: skip


def _half(context: Context, peaks: list[tuple[str, Tensor]]) -> Finding:
    """Whether float16 would overflow: seen in any precision, by the largest number that each layer gives."""
    above = [(name, values) for name, values in peaks if (values > _LARGEST_HALF).any()]
    images = torch.stack([values for _, values in above]).amax(0) if above else torch.zeros(len(context.few))
    share = wilson(float((images > _LARGEST_HALF).double().mean()), len(images))
    upcast = bool(setting(context.codec.network, "force_upcast"))
    place = above[0][0] if above else "no layer"
    return check(
        "half_overflow",
        share,
        f"share of images whose activations exceed {_LARGEST_HALF:,.0f}, the largest number of float16",
        # The class says itself that it isn't for float16.
        warning=1.0 if upcast else 0.0 if above else 1.0,
        text=f"In float16 it would give NaN or black images: {place} is the first layer with larger numbers.",
        remedy="use --dtype bf16 or fp32, or set force_upcast: true in the autoencoder's config.json",
    )


def _constant(context: Context) -> Finding:
    pairs = [(images - images.mean(0)).double().square().flatten(1).mean(1) for images in _both(context)]
    kept = metrics.bootstrap_ratio(*pairs, seed=context.seed, paired=True)
    lost = metrics.Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n)
    place = _first_constant(context) if lost.low > _CONSTANT else ""
    return check(
        "constant",
        lost,
        "share of the variance between images that reconstructions don't have",
        warning=_CONSTANT,
        fault=_CONSTANT,
        text=f"Reconstructions are the same whatever goes in{place}.",
        remedy="train longer (--max_images); where that changes nothing, from the start, with a lower "
        "--model.kl_weight or --model.lr",
        share=lost.value,
        of="variance between images",
    )


def _both(context: Context) -> tuple[Tensor, Tensor]:
    return context.outputs, context.inputs


def _first_constant(context: Context) -> str:
    """Where outputs stop to depend on the image, in words."""

    def alike(values: Tensor) -> Tensor:
        spread = (values - values[:1]).flatten(1).abs().amax(1)
        return (spread <= _ALIKE * values.abs().max().clamp_min(1e-12)).double()

    watched = _watched(context, alike, context.few[:_SIDE_BY_SIDE])
    place = next((name for name, values in watched if bool(values.all())), None)
    return f": from {place} on, no number depends on the image" if place else ""


def _watched(context: Context, look: Callable[[Tensor], Tensor], images: Tensor) -> list[tuple[str, Tensor]]:
    """What `look` makes of the outputs of every layer without parts, an image each, in the order in which they run."""
    found: dict[str, list[Tensor]] = {}
    size = 0

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and len(output) == size:
                found.setdefault(name, []).append(look(output.detach().float()).cpu())

        return keep

    layers = [
        (name, part) for name, part in context.codec.network.named_modules() if name and not list(part.children())
    ]
    handles = [part.register_forward_hook(hook(name)) for name, part in layers]
    try:
        for part in images.split(max(context.batch, _SIDE_BY_SIDE)):
            size = len(part)
            context.passed(inputs_of(context.network, part), batch=size)
    finally:
        for handle in handles:
            handle.remove()
    whole = {name: torch.cat(values) for name, values in found.items()}
    return [(name, values) for name, values in whole.items() if len(values) == len(images)]
