"""What would training on change in what is drawn? Copies of a prior or a generator that learn on by their own loss."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hfgen.diagnosis.attribution import GENERATOR, PRIOR
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.commands import own_settings, run_folder
from hfgen.diagnosis.interventions import inputs_of
from hfgen.diagnosis.refits import REPEATS, SHARED, bar, decay, random_source
from hfgen.errors import UserError
from hfgen.families.gan import GAN
from hfgen.families.vqvae import VQVAE
from hfgen.pipelines import GANPipeline, ImagePipeline, VQVAEPipeline
from hfgen.seeds import derive_seed
from hfgen.training.checkpoints import checkpoint_folders, load_checkpoint
from hfgen.training.phases import Draws, Phase, Step

logger = logging.getLogger("hfgen")

# As at the end of a run: what follows a schedule has reached its last value.
_PROGRESS = 1 - 1e-6


class Learner(NamedTuple):
    """What of a pipeline draws, and how it learns.

    Attributes:
        stage: Of the samples that copies of it draw.
        component: Its name in the pipeline, and in `networks`.
        networks: By the names of the family's phases, in fp32; those that learn are copied.
        averages: Networks that the phases use as they are published.
        phases: Of a step, in order.
        ahead: Names of phases that learn alone before the others do, for as many steps.
    """

    stage: str
    component: str
    networks: dict[str, nn.Module]
    averages: dict[str, nn.Module]
    phases: list[Phase]
    ahead: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What is to be known of it."""
        return [f"{self.stage}: against a new {name}, as the run's own isn't at hand" for name in self.ahead]


def learner_of(pipeline: ImagePipeline, model: str, seed: int) -> Learner | None:
    """A prior of codes, or a GAN's generator against its discriminator; None of what draws otherwise, or by class.

    The discriminator is that of the checkpoint that `model` is, or of its run's last one, else a random one that
    learns ahead. The images that are learnt from have no classes here.
    """
    if can_learn_on(pipeline) is None:
        return None
    return _prior(pipeline, model) if isinstance(pipeline, VQVAEPipeline) else _generator(pipeline, model, seed)


def can_learn_on(pipeline: Any) -> str | None:
    """The stage of the samples, or None."""
    if isinstance(pipeline, VQVAEPipeline | GANPipeline) and not pipeline.num_classes:
        return PRIOR if isinstance(pipeline, VQVAEPipeline) else GENERATOR
    return None


def _prior(pipeline: VQVAEPipeline, model: str) -> Learner:
    rate = own_settings(model).get("model.prior_lr", VQVAE.prior_lr)
    family = VQVAE(codes=pipeline.vqvae.config.num_vq_embeddings, prior_lr=rate)
    (phase,) = (each for each in family.phases() if each.name == "prior")
    networks, averages = ({name: copy.deepcopy(getattr(pipeline, name)).float()} for name in ("prior", "vqvae"))
    return Learner(PRIOR, "prior", networks, averages, [phase])


def _generator(pipeline: GANPipeline, model: str, seed: int) -> Learner:
    family = _family(model)
    judge, is_trained = _discriminator(family, pipeline, model, seed)
    networks = {"gan": copy.deepcopy(pipeline.gan).float(), "discriminator": judge.to(pipeline.device)}
    return Learner(GENERATOR, "gan", networks, {}, family.phases(), () if is_trained else ("discriminator",))


def _family(model: str) -> GAN:
    """By its run's settings, where there are such; those that another version wrote may be refused today."""
    own = own_settings(model)
    known = {f.name: own[f"model.{f.name}"] for f in dataclasses.fields(GAN) if f"model.{f.name}" in own}
    try:
        return GAN(**known) if own.get("family") == "gan" else GAN()
    except (UserError, TypeError, ValueError) as error:
        logger.warning("%s: its run's settings aren't used to learn on: %s", model, error)
        return GAN()


def _discriminator(family: GAN, pipeline: GANPipeline, model: str, seed: int) -> tuple[nn.Module, bool]:
    """It, and whether it is the run's own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed("discriminator", seed))
        judge = family.build(pipeline.sample_size, pipeline.channels)["discriminator"]
    checkpoint = _checkpoint(model)
    try:
        if checkpoint is not None:
            judge.load_state_dict(load_checkpoint(checkpoint)[1]["network.discriminator"])
            return judge, True
    except (UserError, KeyError, RuntimeError) as error:
        logger.warning("checkpoint %s has no discriminator to use: %s", checkpoint, " ".join(str(error).split())[:300])
    return judge, False


def _checkpoint(model: str) -> Path | None:
    """The one whose weights the model has: that which it lies in, else the run's last one."""
    run, path = run_folder(model), Path(model).resolve()
    if run is None:
        return None
    known = checkpoint_folders(run.resolve() / "checkpoints")
    return next((folder for folder in (path, *path.parents) if folder in known), known[-1] if known else None)


def learn_on(
    pipeline: ImagePipeline, learner: Learner, images: Tensor, budget: Budget, seed: int, repeats: int = REPEATS
) -> Iterator[ImagePipeline]:
    """Pipelines whose part that draws has learnt `budget.refit_steps` steps more on uint8 `images` (N, C, R, R).

    As the refits of `hfgen.diagnosis.refits`, they have the first three quarters of the steps in common.
    """
    state, steps = _State(learner), budget.refit_steps
    shared = round(SHARED * steps)
    ahead = steps if learner.ahead else 0
    with bar(learner.stage, ahead + shared + repeats * (steps - shared)) as progress:

        def run(state: _State, count: int, part: str, active: tuple[str, ...]) -> None:
            draws = derive_seed("learn on", learner.stage, seed, part)
            source = random_source(learner.stage, seed, part)
            for _ in range(count):
                picks = torch.randint(len(images), (budget.refit_batch,), generator=source)
                state.one(inputs_of(state.networks[learner.component], images[picks]), draws, active, steps)
                progress.update()

        run(state, ahead, "ahead", learner.ahead)
        state.index, everything = 0, tuple(phase.name for phase in learner.phases)
        run(state, shared, "shared", everything)
        for index in range(repeats):
            branch = copy.deepcopy(state) if index < repeats - 1 else state
            run(branch, steps - shared, str(index), everything)
            drawing = branch.networks[learner.component].requires_grad_(False)
            yield _with(pipeline, learner.component, drawing)


def _with(pipeline: ImagePipeline, component: str, network: nn.Module) -> ImagePipeline:
    made = type(pipeline)(**{**pipeline.components, component: network})
    made.set_progress_bar_config(disable=True)
    return made


class _State:
    """Networks and their optimizers in the middle of a training; a deep copy goes on from there by itself."""

    def __init__(self, learner: Learner) -> None:
        self.networks = copy.deepcopy(learner.networks)
        self.phases, self.averages, self.index = learner.phases, learner.averages, 0
        self.optimizers = {
            phase.name: torch.optim.AdamW(
                self._trained_by(phase), phase.lr, betas=phase.betas, weight_decay=phase.weight_decay
            )
            for phase in self.phases
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> _State:
        other = object.__new__(_State)
        vars(other).update(vars(self))
        # Together, so that the optimizers' parameters are the copies'.
        other.networks, other.optimizers = copy.deepcopy((self.networks, self.optimizers), memo)
        return other

    def one(self, batch: Tensor, draws: int, active: tuple[str, ...], steps: int) -> None:
        """A step on images in [-1, 1]; phases that aren't `active` compute what others need of them."""
        source = Draws(draws, self.index, batch.device)
        step = Step(batch, None, source, self.averages, self.index, _PROGRESS)
        for phase in self.phases:
            learns = phase.name in active
            for name, network in self.networks.items():
                network.requires_grad_(learns and name in phase.trains)
            with torch.set_grad_enabled(learns):
                loss = phase.loss(self.networks, step).total
                if learns:
                    self._update(phase, loss, steps)
        self.index += 1

    def _update(self, phase: Phase, loss: Tensor, steps: int) -> None:
        optimizer = self.optimizers[phase.name]
        optimizer.zero_grad()
        loss.backward()
        if phase.clip is not None:
            nn.utils.clip_grad_norm_(self._trained_by(phase), phase.clip)
        for group in optimizer.param_groups:
            group["lr"] = phase.lr * decay(self.index, steps)
        optimizer.step()

    def _trained_by(self, phase: Phase) -> list[nn.Parameter]:
        return [parameter for name in phase.trains for parameter in self.networks[name].parameters()]
