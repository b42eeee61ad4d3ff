"""A pipeline and held-out images -> the images of every stage, made step by step and kept in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.autoencoders import Autoencoder
from hfgen.diagnosis import interventions as intervene
from hfgen.diagnosis.bounds import bound
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.learning_on import Learner, learn_on, learner_of
from hfgen.diagnosis.plan import STARTS, Clock
from hfgen.diagnosis.refits import CELLS, POSTERIORS, adversarial, cells_of, refit
from hfgen.evaluation.passes import generate, reconstruct
from hfgen.evaluation.workspace import fill
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of
from hfgen.pipelines.finite import NonFinite, counted, finite_outputs
from hfgen.seeds import derive_seed

Stages = dict[str, Tensor]
"""uint8 (n, C, R, R) by name; see `hfgen.diagnosis.attribution` for their order."""

_AS_IT_IS = ("mean", "prior_sample")

Render = Callable[[slice], Tensor]
Make = Callable[[slice], dict[str, Tensor]]


class Chain(NamedTuple):
    """What could be made, by stage why what is missing couldn't, and whether it was intervened on at all.

    `repeats`: the images of every refit of a part, the first of which is its stage. `notes`: what is to be known.
    """

    stages: Stages
    failed: dict[str, NonFinite]
    repeats: dict[str, list[Tensor]]
    intervened: bool
    notes: list[str]

    def cells(self, originals: Tensor) -> dict[str, list[Tensor]]:
        """`repeats`, and as `perfect` what a perfect encoder would give, where learning on doesn't come as far.

        Inferred image by image at the model's own objective; where nothing is between encoder and decoder, the best
        latents. Which is nearer is told by the squared error. A network that is free has at least these.
        """
        found = {name: made for name, made in self.repeats.items() if name in CELLS}
        is_freed = any(CELLS[name].free for name in found)
        perfect = self.stages.get("inferred" if is_freed else "best")
        if perfect is None or "control" not in found:
            return found
        least = _error([perfect], originals)
        if least < _error(found["control"], originals):
            found["perfect"] = [perfect]
            if "free" in found and least < _error(found["free"], originals):
                found["free"] = [perfect]
        return found

    @property
    def draws(self) -> dict[str, list[Tensor]]:
        """`repeats` of parts that draw."""
        return {name: made for name, made in self.repeats.items() if name not in CELLS}

    @property
    def broken(self) -> dict[str, NonFinite]:
        """Failures of the model as it is, with which nothing can be told by intervening."""
        return {name: error for name, error in self.failed.items() if name in _AS_IT_IS}


def make_stages(
    pipeline: ImagePipeline,
    inputs: Tensor,
    training: Callable[[], Tensor],
    budget: Budget,
    seed: int,
    folder: Path,
    *,
    refits: bool = True,
    clock: Clock | None = None,
    model: str = "",
) -> Chain:
    """Every intervention that the pipeline allows; what `folder` holds already isn't made again.

    A stage with non-finite images is left out. Where the model itself gives such images, no intervention is made.

    Args:
        pipeline: On any device; refits are in fp32.
        inputs: Held-out images with their conditions, if any; uint8.
        training: Gives the images that refits and the fitted density learn from, uint8 (N, C, R, R).
        budget: Of steps.
        seed: Of every draw.
        folder: For the results of single steps.
        refits: Whether copies of the network learn and latents are optimised, which takes hours of a large one.
        clock: Is told what is done.
        model: The pipeline's address: a GAN's run has its discriminator.
    """
    count, batch = len(inputs), budget.batch_of(inputs.shape[-1])
    chain, network = Chain({}, {}, {}, refits, []), codec_of(pipeline)

    def parts(name: str, make: Make, size: int) -> None:
        with clock.part(name, folder) if clock else contextlib.nullcontext():
            try:
                found = fill(
                    folder, name, count, size, lambda some: [make(rows) for rows in some], name.replace("_", " ")
                )
            except NonFinite as error:
                chain.failed[name] = error
                return
        chain.stages[name] = found.pop("images")
        if name in CELLS or found:
            chain.repeats[name] = [chain.stages[name], *(found[key] for key in sorted(found))]

    def step(name: str, make: Render, size: int) -> None:
        parts(name, lambda rows: {"images": make(rows)}, size)

    def mean(rows: slice) -> Tensor:
        if network is None:
            return reconstruct(pipeline, inputs[rows], rows.start)
        with counted("held-out image", rows.start), finite_outputs(pipeline):
            return intervene.from_means(network, inputs[rows])

    if pipeline.can_reconstruct:
        step("mean", mean, batch)
    if pipeline.can_sample:
        seeds = [derive_seed("sample", seed, index) for index in range(count)]
        step("prior_sample", lambda rows: generate(pipeline, seeds[rows], rows.start), batch)
    if chain.failed:
        return chain
    if refits and (learner := learner_of(pipeline, model, seed)) is not None:
        chain.notes.extend(learner.notes)
        parts(learner.stage, _learnt(pipeline, learner, training, seeds, budget, seed), count)
    if network is not None and not refits:
        for name, make in _as_they_are(network, inputs, seed).items():
            step(name, make, batch)
        return chain
    if network is not None:
        for name, make in _of_latents(network, inputs, budget, seed, batch).items():
            step(name, make, batch)
        step("linear", lambda _: _at_least(network, training(), inputs, seed), count)
        for name in cells_of(network):
            parts(name, _refitted(network, inputs, training, name, budget, seed), count)
        step("adversarial", lambda _: _decoded(adversarial(network, training(), budget, seed), inputs, batch), count)
    if network is not None and pipeline.can_sample:
        step(
            "fitted_density",
            lambda _: intervene.from_fitted_density(network, training(), count, batch, seed),
            count,
        )
    generator = pipeline.generator_network
    if generator is not None and not pipeline.num_classes:

        def invert(rows: slice) -> Tensor:
            images, shape = inputs[rows], pipeline.latent_shape
            return intervene.invert(generator, images, shape, budget.latent_steps, STARTS, seed)

        step("inversion", invert, batch)
    return chain


def _at_least(network: Autoencoder, training: Tensor, inputs: Tensor, seed: int) -> Tensor:
    """What the latent's numbers, or the bits of its codes, carry at least."""
    if network.traits.quantised:
        return bound(network, training, inputs, seed).images
    return intervene.from_components(network, training, inputs, seed)


def _as_they_are(network: Autoencoder, inputs: Tensor, seed: int) -> dict[str, Render]:
    """Stages that cost one pass through the network."""
    made: dict[str, Render] = {}
    if network.can_be_copied:  # A caller's functions may do what no other precision allows.
        made["low_precision"] = lambda rows: intervene.from_low_precision(network, inputs[rows])
    if network.traits.gaussian:
        made["posterior_sample"] = lambda rows: intervene.from_samples(
            network, inputs[rows], derive_seed("posterior", seed, rows.start)
        )
    return made


def _of_latents(network: Autoencoder, inputs: Tensor, budget: Budget, seed: int, batch: int) -> dict[str, Render]:
    """The stages that decode some latent of each image with the network as it is."""
    made: dict[str, Render] = {
        "best": lambda rows: intervene.best_latents(network, inputs[rows], budget.latent_steps),
        **_as_they_are(network, inputs, seed),
    }
    if network.traits.quantised:
        made["unquantised"] = lambda rows: intervene.from_unquantised(network, inputs[rows])
    known = intervene.posterior(network, inputs[:POSTERIORS], batch, seed)
    if known is not None:
        made["inferred"] = lambda rows: intervene.inferred(network, inputs[rows], known, budget.latent_steps)
    return made


def _refitted(
    network: Autoencoder, inputs: Tensor, training: Callable[[], Tensor], name: str, budget: Budget, seed: int
) -> Make:
    def make(_: slice) -> dict[str, Tensor]:
        batch, free = budget.batch_of(inputs.shape[-1]), CELLS[name].free
        made = [_decoded(each, inputs, batch, free) for each in refit(network, training(), name, budget, seed)]
        return {"images": made[0], **{f"repeat_{index}": images for index, images in enumerate(made[1:], 1)}}

    return make


def _learnt(
    pipeline: ImagePipeline,
    learner: Learner,
    training: Callable[[], Tensor],
    seeds: list[int],
    budget: Budget,
    seed: int,
) -> Make:
    """Samples by the same seeds as the pipeline's own."""

    def make(_: slice) -> dict[str, Tensor]:
        made = [generate(student, seeds) for student in learn_on(pipeline, learner, training(), budget, seed)]
        return {"images": made[0], **{f"repeat_{index}": images for index, images in enumerate(made[1:], 1)}}

    return make


def _decoded(student: Autoencoder, inputs: Tensor, batch: int, free: bool = False) -> Tensor:
    decode = intervene.from_unquantised if free else intervene.from_means
    return torch.cat([decode(student, part) for part in inputs.split(batch)])


def _error(repeats: list[Tensor], originals: Tensor) -> float:
    """Mean squared error over all images of all refits."""
    return sum(float((images.float() - originals.float()).square().mean()) for images in repeats) / len(repeats)
