"""What a diagnosis will do, and about how long that takes: said before it starts."""

from __future__ import annotations

import contextlib
import math
import time
from typing import NamedTuple

from torch import Tensor

from hfgen.diagnosis.budgets import Budget
from hfgen.errors import SettingsError
from hfgen.evaluation.passes import generate, reconstruct
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of
from hfgen.pipelines.finite import NonFinite
from hfgen.pipelines.given import has_networks
from hfgen.seeds import derive_seed

LARGE_PARAMETERS, LARGE_SIDE = 20_000_000, 256
"""From here on nothing is refit and no latent optimised unless asked: it would take hours."""

LARGE_IMAGES = 32

_BACKWARD = 3
_GATES_PASSES, _STAGES, _REFITS = 2.0, 6, 3


class Plan(NamedTuple):
    """`refits`: whether networks learn and latents are optimised; `images`: at most so many are looked at."""

    refits: bool
    images: int


def make_plan(pipeline: ImagePipeline, budget: Budget, refits: bool | None) -> Plan:
    """By the model's size, unless `refits` says so; what a caller's functions compute isn't refit."""
    large, is_known = _is_large(pipeline), has_networks(pipeline)
    chosen = is_known and not large if refits is None else refits
    if refits and (codec_of(pipeline) is None or not is_known):
        raise SettingsError("refits: this model has no autoencoder that could be refit; leave it out")
    return Plan(chosen, budget.images if not large else LARGE_IMAGES)


def _is_large(pipeline: ImagePipeline) -> bool:
    return pipeline.parameter_count >= LARGE_PARAMETERS or pipeline.sample_size >= LARGE_SIDE


def announce(pipeline: ImagePipeline, plan: Plan, budget: Budget, inputs: Tensor) -> str:
    """One line: the work, and its time on this machine by one image's, without what the judge takes."""
    count = len(inputs)
    image = _seconds(pipeline, inputs[:2])
    work, passes = ["gates"], _GATES_PASSES * min(count, 192) + count
    if plan.refits and codec_of(pipeline) is not None:
        stages = (_STAGES + 2 * _BACKWARD * budget.latent_steps) * count
        passes += stages + _REFITS * _BACKWARD * budget.refit_steps * budget.refit_batch
        work += [
            f"latents of {count} images in {budget.latent_steps} steps",
            f"{_REFITS} refits of {budget.refit_steps} steps",
        ]
    elif codec_of(pipeline) is not None:
        work.append("no refits (a large model: --refits asks for them)" if _is_large(pipeline) else "no refits")
    seconds = passes * image
    long = f"{math.ceil(seconds / 60)} minutes" if seconds > 90 else f"{max(10, 10 * math.ceil(seconds / 10))} seconds"
    return f"diagnose: {', '.join(work)}; about {long} here, beside the judge's own training"


def _seconds(pipeline: ImagePipeline, inputs: Tensor) -> float:
    """What an image takes, by a few of them; one whose output isn't finite takes as long."""
    started = time.perf_counter()
    with contextlib.suppress(NonFinite):
        if pipeline.can_reconstruct:
            reconstruct(pipeline, inputs)
        else:
            generate(pipeline, [derive_seed("plan", index) for index in range(len(inputs))])
    return (time.perf_counter() - started) / len(inputs)
