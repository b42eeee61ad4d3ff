"""What would training on change? Copies of an autoencoder that learn a little more, under one changed condition."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from hfgen.autoencoders import Autoencoder
from hfgen.bars import quiet
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.interventions import inputs_of, weight_of
from hfgen.models.patch_discriminator import PatchDiscriminator
from hfgen.objectives.adversarial import ADVERSARIAL_LOSSES, adaptive_weight
from hfgen.seeds import derive_seed

Condition = Literal["decoder", "free", "adversarial"]

# Above so many weights a network was trained with smaller steps, and diverges with larger ones.
_SMALL, _LR_SMALL, _LR_LARGE = 5_000_000, 2e-3, 1e-4
_ADVERSARIAL_WEIGHT = 0.5
_CLIP = 1.0


def refit(network: Autoencoder, images: Tensor, condition: Condition, budget: Budget, seed: int) -> Autoencoder:
    """A copy of an autoencoder after `budget.refit_steps` more steps on uint8 `images` (N, C, R, R).

    - `decoder`: L2 with the encoder frozen, on latents as the decoder knows them (noise and codes included). What it
      gains is what the decoder had not learnt yet.
    - `free`: L2, encoder and decoder, without noise, KL or codes. What it gains beyond that is what these kept from
      the latent.
    - `adversarial`: as `decoder`, with a PatchGAN (hinge, adaptive weight). What it gains comes without any
      new information about the image.
    """
    student = copy.deepcopy(network).float()
    student.requires_grad_(True)
    if condition != "free":
        kept = student.decoder_parameters(_means(student, images))
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name in kept)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    rate = _LR_SMALL if sum(p.numel() for p in student.parameters()) < _SMALL else _LR_LARGE
    optimizer = torch.optim.Adam(trained, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _decay(step, budget.refit_steps))
    last = student.last_weight(_means(student, images))
    critic = _Critic(images.shape[1], seed, weight_of(student).device) if condition == "adversarial" else None
    generator = torch.Generator().manual_seed(derive_seed("refit", condition, seed))
    bar: dict[str, Any] = {"unit": "step", "leave": False, "disable": quiet()}
    steps = tqdm(range(budget.refit_steps), desc=f"refit: {condition}", **bar)
    with torch.enable_grad():
        for batch, _ in zip(_batches(student, images, budget.refit_batch, generator), steps, strict=False):
            fakes = student.decode(_latents(student, batch, condition, generator), quantised=condition != "free")
            loss = (fakes - batch).square().mean()
            if critic is not None:
                loss = loss + critic.term(batch, fakes, loss, last)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, _CLIP)
            optimizer.step()
            schedule.step()
    return student.requires_grad_(False)


def _latents(student: Autoencoder, batch: Tensor, condition: Condition, generator: torch.Generator) -> Tensor:
    with torch.set_grad_enabled(condition == "free"):
        encoded = student.encode(batch)
    if condition == "free" or encoded.log_variance is None:
        return encoded.mean
    return encoded.sample(torch.randn(encoded.mean.shape, generator=generator))


@torch.no_grad()
def _means(student: Autoencoder, images: Tensor) -> Tensor:
    """Latents of one image."""
    return student.encode(inputs_of(student, images[:1])).mean


def _batches(student: Autoencoder, images: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        picks = torch.randint(len(images), (size,), generator=generator)
        yield inputs_of(student, images[picks])


def _decay(step: int, steps: int) -> float:
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
        same: Callable[[Tensor], Tensor] = lambda tensor: tensor  # noqa: E731
        return _ADVERSARIAL_WEIGHT * adaptive_weight(nll, term, last, same) * term
