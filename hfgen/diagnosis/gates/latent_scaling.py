"""scaling_factor, shift_factor, latents_mean and latents_std, against the latents that the encoder gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen.autoencoders.network_calls import setting
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 1.0, 0.5
_OFF_CENTRE = 0.5
_LARGEST = 1e6


def scaling(context: Context) -> Iterator[Finding]:
    """Latents as a diffusion model would be given them should have a deviation of 1."""
    if context.network is None or context.network.traits.quantised:
        return
    network = context.network.network
    if setting(network, "scaling_factor") is None and setting(network, "latents_std") is None:
        return
    scaled = context.network.normalise(context.drawn("scaling").to(next(network.parameters()).device))
    scaled = scaled.cpu().double().flatten(2)
    moments = torch.cat([scaled.mean(-1), scaled.square().mean(-1)], 1)
    channels = scaled.shape[1]

    def statistic(means: Tensor) -> Tensor:
        first, second = means.split(channels, 1)
        deviation = (second - first.square()).clamp_min(1e-12).mean(1).sqrt()
        off = first.square().mean(1).sqrt() / deviation
        return torch.stack([deviation.log2().abs(), deviation, off], 1)

    octaves, deviation, off = bootstrap_of_means(moments, statistic, seed=context.seed)
    # A model with a prior of its own draws latents as they are.
    alone = not getattr(context.pipeline, "can_sample", False)
    factor = float(setting(network, "scaling_factor") or 1.0)
    yield check(
        "scaling_factor",
        octaves,
        "how many times the deviation of the scaled latents must be doubled or halved to be 1",
        warning=_WARNING,
        fault=_FAULT if alone else 2 * _LARGEST,
        text=f"Scaled by the config's factor {factor:g}, latents have a deviation of {deviation.value:.2g} instead of "
        "1: a diffusion model on them trains and samples badly.",
        remedy=_command(context.model, network, factor / deviation.value),
    )
    if setting(network, "latents_mean") is not None or setting(network, "shift_factor") is not None:
        yield check(
            "shift_factor",
            off,
            "how far the channels' means lie from 0 after the config's shift, in deviations",
            warning=_OFF_CENTRE,
            fault=2 * _OFF_CENTRE if alone else 2 * _LARGEST,
            text="The config's shift (latents_mean or shift_factor) doesn't centre the latents.",
            remedy="set latents_mean in the autoencoder's config.json to the means of its latents",
        )


def _command(model: str, network: Any, factor: float) -> str:
    cls, folder = type(network).__name__, _folder(model)
    return (
        f"""python -c "from diffusers import {cls} as A; m = A.from_pretrained('{folder}'); """
        f"""m.register_to_config(scaling_factor={factor:.4g}); m.save_pretrained('{folder}')" """
    ).strip()


def _folder(model: str) -> str:
    """Where the network's own files lie: in a run or a pipeline, deeper than its address."""
    places = (Path(model, *parts) for parts in ((), ("pretrained",), ("vae",), ("pretrained", "vae")))
    return next((str(place) for place in places if (place / "config.json").is_file()), model)
