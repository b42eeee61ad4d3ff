"""What would training on change? Copies of an autoencoder that learn a little more, part by part."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from hfgen.autoencoders import Autoencoder
from hfgen.bars import quiet
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.interventions import Posterior, inputs_of, posterior, weight_of
from hfgen.models.patch_discriminator import PatchDiscriminator
from hfgen.objectives.adversarial import ADVERSARIAL_LOSSES, adaptive_weight
from hfgen.seeds import derive_seed


class Cell(NamedTuple):
    """One combination of the factorial: `free`: without noise, KL and codes; and which part learns."""

    free: bool
    encoder: bool
    decoder: bool

    @property
    def cost(self) -> float:
        """Of one image in one step, in passes of an image through encoder and decoder."""
        # A gradient costs twice what it is of, and as much as that where a part only passes it on.
        if self.encoder and self.decoder:
            return 3.0
        return 2.5 if self.encoder else 2.0


CELLS = {
    "encoder": Cell(False, True, False),
    "decoder": Cell(False, False, True),
    "control": Cell(False, True, True),
    "free_encoder": Cell(True, True, False),
    "free_decoder": Cell(True, False, True),
    "free": Cell(True, True, True),
}
"""The factorial's refits by stage; `control` goes on training as before. Two cells need no training."""

REPEATS, SHARED = 3, 0.75
"""So many refits of each cell, which have the first part of their steps in common."""

# Above so many weights a network was trained with smaller steps, and diverges with larger ones.
_SMALL, _LR_SMALL, _LR_LARGE = 5_000_000, 2e-3, 1e-4
_ADVERSARIAL_WEIGHT = 0.5
_CLIP = 1.0
_POSTERIOR_BATCH = 64

POSTERIORS = 256
"""As many images are enough to see what a posterior costs."""


def refit(
    network: Autoencoder, images: Tensor, name: str, budget: Budget, seed: int, repeats: int = REPEATS
) -> Iterator[Autoencoder]:
    """Copies of an autoencoder after `budget.refit_steps` more steps on uint8 `images` (N, C, R, R), as in `CELLS`.

    All minimise the squared error. Where a cell isn't `free`, latents are as the decoder knows them, noise and codes
    included; an encoder that learns pays for its posterior what the model's own objective asks (see `posterior`), or
    the quantiser's own loss. The copies differ in the images and noise of the last quarter of the steps.
    """
    cell, known = CELLS[name], None
    if cell.encoder and not cell.free:
        known = posterior(network, images[:POSTERIORS], _POSTERIOR_BATCH, seed)
    training = _Training(network, images, cell, budget, known)
    shared = round(SHARED * budget.refit_steps)
    with bar(name, shared + repeats * (budget.refit_steps - shared)) as progress:
        training.run(shared, random_source(name, seed, "shared"), progress)
        for index in range(repeats):
            branch = copy.deepcopy(training) if index < repeats - 1 else training
            branch.run(budget.refit_steps - shared, random_source(name, seed, str(index)), progress)
            yield branch.student.requires_grad_(False)


def cells_of(network: Autoencoder) -> list[str]:
    """The refits that can differ: of a network without noise and codes there is nothing to be freed from."""
    either = network.traits.gaussian or network.traits.quantised
    return [name for name, cell in CELLS.items() if either or not cell.free]


def adversarial(network: Autoencoder, images: Tensor, budget: Budget, seed: int) -> Autoencoder:
    """As the cell `decoder`, once, with a PatchGAN: what it gains comes without any new information on the image."""
    training = _Training(network, images, CELLS["decoder"], budget, None)
    training.critic = _Critic(images.shape[1], seed, weight_of(network).device)
    with bar("adversarial", budget.refit_steps) as progress:
        training.run(budget.refit_steps, random_source("adversarial", seed, "whole"), progress)
    return training.student.requires_grad_(False)


def bar(name: str, steps: int) -> Any:
    """Of a refit."""
    return tqdm(total=steps, unit="step", leave=False, disable=quiet(), desc=f"refit: {name.replace('_', ' ')}")


def random_source(name: str, seed: int, part: str) -> torch.Generator:
    """Of a part of a refit's steps."""
    return torch.Generator().manual_seed(derive_seed("refit", name, seed, part))


class _Training:
    """A student in the middle of its training; a deep copy goes on from there by itself."""

    def __init__(
        self, network: Autoencoder, images: Tensor, cell: Cell, budget: Budget, known: Posterior | None
    ) -> None:
        self.student = copy.deepcopy(network).float()
        self.cell, self.budget, self.known, self.step = cell, budget, known, 0
        self.critic: _Critic | None = None
        self._images = images
        first = _means(self.student, images)
        self.student.last_weight(first)
        behind = set(self.student.decoder_parameters(first))
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(cell.decoder if name in behind else cell.encoder)
        self.trained = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        small = sum(p.numel() for p in self.student.parameters()) < _SMALL
        self.rate = _LR_SMALL if small else _LR_LARGE
        self.optimizer = torch.optim.Adam(self.trained, self.rate) if self.trained else None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Training:
        other = object.__new__(_Training)
        memo[id(self._images)] = self._images
        vars(other).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return other

    def run(self, steps: int, generator: torch.Generator, progress: Any) -> None:
        """Go on for some of the steps; nothing learns where the part that should has no weights."""
        for _ in range(steps if self.optimizer else 0):
            with torch.enable_grad():
                self._one(generator)
            self.step += 1
            progress.update()

    def _one(self, generator: torch.Generator) -> None:
        assert self.optimizer is not None, "only where something learns"
        picks = torch.randint(len(self._images), (self.budget.refit_batch,), generator=generator)
        batch = inputs_of(self.student, self._images[picks])
        latents, price = self._latents(batch, generator)
        decoded = self.student.decode_with_loss(latents, quantised=not self.cell.free)
        loss = (decoded.images - batch).square().mean() + price / batch[0].numel()
        if self.cell.encoder and not self.cell.free and decoded.quantiser_loss is not None:
            loss = loss + decoded.quantiser_loss
        if self.critic is not None:
            loss = loss + self.critic.term(batch, decoded.images, loss, self.student.last_weight())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, _CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * decay(self.step, self.budget.refit_steps)
        self.optimizer.step()

    def _latents(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As the cell has them, and what they cost in squared error, summed over an image."""
        with torch.set_grad_enabled(self.cell.encoder):
            encoded = self.student.encode(batch)
        free = batch.new_zeros(())
        if self.cell.free or encoded.log_variance is None:
            return encoded.mean, free
        noise = torch.randn(encoded.mean.shape, generator=generator).to(encoded.mean)
        return encoded.sample(noise), free if self.known is None else _price(encoded, self.known)


def _price(encoded: Any, known: Posterior) -> Tensor:
    """The price of 2 KL(q | N(centre, variance)), mean over images; see `posterior`."""
    relative = encoded.log_variance - known.variance.log()
    away = (encoded.mean - known.centre).square() / known.variance
    return known.price * (relative.exp() - 1 - relative + away).flatten(1).sum(1).mean()


@torch.no_grad()
def _means(student: Autoencoder, images: Tensor) -> Tensor:
    """Latents of one image."""
    return student.encode(inputs_of(student, images[:1])).mean


def decay(step: int, steps: int) -> float:
    """A short rise, then half a cosine to 0."""
    rise = max(1, steps // 20)
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


class _Critic:
    """A small PatchGAN that learns beside the decoder."""

    def __init__(self, channels: int, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed("critic", seed))
            self._network = PatchDiscriminator(channels, 32, 64, 2).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), 5e-4, betas=(0.5, 0.9))

    def term(self, real: Tensor, fakes: Tensor, nll: Tensor, last: Tensor) -> Tensor:
        """The decoder's adversarial term; one step of the critic on the same images comes first."""
        hinge = ADVERSARIAL_LOSSES["hinge"]
        loss = hinge.discriminator(self._network(real), self._network(fakes.detach()))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        term = hinge.generator(real, self._network(fakes))
        return _ADVERSARIAL_WEIGHT * adaptive_weight(nll, term, last, _same) * term


def _same(tensor: Tensor) -> Tensor:
    return tensor
