"""What a diagnosis will do, and about how long that takes: said before it starts, and corrected as it goes."""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hfgen.diagnosis.attribution import PRIOR
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.learning_on import can_learn_on
from hfgen.diagnosis.refits import CELLS, REPEATS, SHARED, cells_of
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
STARTS = 2
"""Of the search for a generator's nearest image to each real one."""

# Passes of an image through encoder and decoder: a step of a latent through the decoder and back, one of a generator,
# of a network in low precision, and of a refit with an adversary.
_LATENT_STEP, _GENERATOR_STEP, _LOW_PRECISION, _ADVERSARIAL_STEP = 1.5, 3.0, 3.0, 3.0
# Of a prior in a step, and of a generator and its discriminator, which is the wider one.
_PRIOR_STEP, _ADVERSARY_STEP = 1.0, 4.0
_GATES_PASSES, _GATES_IMAGES = 2.0, 192
_CALLS, _SECONDS = 3, 3.0
_DIFFERS, _WORTH_SAYING = 1.5, 60.0

logger = logging.getLogger("hfgen")


class Plan(NamedTuple):
    """`refits`: whether networks learn and latents are optimised; `images`: at most so many are looked at."""

    refits: bool
    images: int


def make_plan(pipeline: ImagePipeline, budget: Budget, refits: bool | None) -> Plan:
    """By the model's size, unless `refits` says so; what a caller's functions compute isn't refit."""
    large, is_known = _is_large(pipeline), has_networks(pipeline)
    chosen = is_known and not large if refits is None else refits
    if refits and not (is_known and (codec_of(pipeline) is not None or can_learn_on(pipeline))):
        rest = "and no prior or generator that learns on"
        raise SettingsError(f"refits: this model has no autoencoder that could be refit, {rest}; leave it out")
    return Plan(chosen, budget.images if not large else LARGE_IMAGES)


def _is_large(pipeline: ImagePipeline) -> bool:
    return pipeline.parameter_count >= LARGE_PARAMETERS or pipeline.sample_size >= LARGE_SIDE


def announce(pipeline: ImagePipeline, plan: Plan, budget: Budget, inputs: Tensor) -> Clock:
    """Say the work in one line, and its time on this machine, without what the judge takes; the clock corrects it."""
    count, work = len(inputs), ["gates"]
    if plan.refits and codec_of(pipeline) is not None:
        work += [
            f"latents of {count} images in {budget.latent_steps} steps",
            f"refits of {budget.refit_steps} steps",
        ]
    elif codec_of(pipeline) is not None:
        work.append("no refits (a large model: --refits asks for them)" if _is_large(pipeline) else "no refits")
    if plan.refits and (stage := can_learn_on(pipeline)) is not None:
        part = "prior" if stage == PRIOR else "generator and discriminator"
        work.append(f"{budget.refit_steps} more steps of the {part}")
    clock = Clock(_parts(pipeline, plan, budget, count), seconds_of_a_pass(pipeline, inputs, budget))
    logger.info("diagnose: %s; about %s here, beside the judge's own training", ", ".join(work), clock.said)
    return clock


def _parts(pipeline: ImagePipeline, plan: Plan, budget: Budget, count: int) -> dict[str, float]:
    """Passes of an image through the network, by stage; `gates` come last."""
    network, parts = codec_of(pipeline), {}
    if pipeline.can_reconstruct:
        parts["mean"] = float(count)
    if pipeline.can_sample:
        parts["prior_sample"] = float(count)
    if network is not None:
        parts |= {"low_precision": _LOW_PRECISION * count, "posterior_sample": float(count)}
    if network is not None and plan.refits:
        steps = budget.refit_steps * budget.refit_batch
        repeated = (SHARED + REPEATS * (1 - SHARED)) * steps
        optimised = ("best", "inferred") if network.traits.gaussian else ("best",)
        parts |= dict.fromkeys(optimised, _LATENT_STEP * budget.latent_steps * count)
        parts |= {name: CELLS[name].cost * repeated + REPEATS * count for name in cells_of(network)}
        parts["adversarial"] = _ADVERSARIAL_STEP * steps + count
    if plan.refits and (stage := can_learn_on(pipeline)) is not None:
        learnt = (SHARED + REPEATS * (1 - SHARED)) * budget.refit_steps * budget.refit_batch
        parts[stage] = (_PRIOR_STEP if stage == PRIOR else _ADVERSARY_STEP) * learnt + REPEATS * count
    if pipeline.generator_network is not None and not pipeline.num_classes and (network is None or plan.refits):
        parts["inversion"] = _GENERATOR_STEP * STARTS * budget.latent_steps * count
    return {**parts, "gates": _GATES_PASSES * min(count, _GATES_IMAGES)}


class Clock:
    """The time that is left, by what the parts that are done took.

    Args:
        parts: Work by name, in passes.
        seconds: What a pass takes, at first.
    """

    def __init__(self, parts: dict[str, float], seconds: float) -> None:
        self._left, self._seconds = dict(parts), seconds
        self._passes = self._spent = 0.0

    @property
    def said(self) -> str:
        """The time that is left, in words."""
        return in_words(self._seconds * sum(self._left.values()))

    @contextlib.contextmanager
    def part(self, name: str, folder: Path) -> Iterator[None]:
        """While it is done; what `folder` holds of it already says nothing about the time that the rest takes."""
        resumed, started = (folder / f"{name}.json").is_file(), time.perf_counter()
        yield
        passes = self._left.pop(name, 0.0)
        if passes and not resumed:
            self._passes += passes
            self._spent += time.perf_counter() - started
            self._correct()

    def _correct(self) -> None:
        """Say it where what is left takes much more, or much less, than was said last."""
        seconds, left = self._spent / self._passes, sum(self._left.values())
        change = max(seconds, 1e-9) / max(self._seconds, 1e-9)
        if max(change, 1 / change) > _DIFFERS and abs(seconds - self._seconds) * left > _WORTH_SAYING:
            self._seconds = seconds
            logger.info("diagnose: about %s more, by what was done so far", self.said)


def in_words(seconds: float) -> str:
    """Minutes or tens of seconds, rounded up."""
    return f"{math.ceil(seconds / 60)} minutes" if seconds > 90 else f"{max(10, 10 * math.ceil(seconds / 10))} seconds"


def seconds_of_a_pass(pipeline: ImagePipeline, inputs: Tensor, budget: Budget) -> float:
    """What an image takes in a batch, once the network has run: the first call imports, compiles and allocates.

    The median of three calls, or of as many as fit into some seconds, at the batch of the stages or as many images as
    fit by what one image takes.
    """
    one, again = (_timed(lambda: _run(pipeline, inputs[:1])) for _ in range(2))
    most = max(1, int(_SECONDS / max(min(one, again), 1e-9)))
    batch = inputs[: min(budget.batch_of(inputs.shape[-1]), most)]
    found: list[float] = []
    while len(found) < _CALLS and sum(found) < _SECONDS:
        found.append(_timed(lambda: _run(pipeline, batch)))
    return statistics.median(found) / len(batch)


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _run(pipeline: ImagePipeline, inputs: Tensor) -> None:
    """One whose output isn't finite takes as long."""
    with contextlib.suppress(NonFinite):
        if pipeline.can_reconstruct:
            reconstruct(pipeline, inputs)
        else:
            generate(pipeline, [derive_seed("plan", index) for index in range(len(inputs))])
