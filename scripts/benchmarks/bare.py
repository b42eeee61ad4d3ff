"""Training loops as bare as they can be: forward, backward, update on images in memory, and nothing else.

They are what `benchmark.py train` holds hfgen's loop against. Their losses are written anew, so that waste in
hfgen's own would show; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

Nets = dict[str, Any]
Updates = Iterator[tuple[str, Tensor]]
"""A step: (the network to update, its loss), one at a time; the loop updates it before it asks for the next."""


def vae(nets: Nets, images: Tensor, model: Any, step: int, normal: Callable[[Tensor], Tensor]) -> Updates:
    """Gaussian likelihood and KL, per pixel."""
    _, nll, kl = _bound(nets["vae"], images, model, normal)
    yield "vae", nll + kl


def vaegan(nets: Nets, images: Tensor, model: Any, step: int, normal: Callable[[Tensor], Tensor]) -> Updates:
    """The VAE's terms and an adversarial one of the same size at the last layer; R1 and R2 now and then.

    One forward for both networks.
    """
    network, discriminator = nets["vae"], nets["discriminator"]
    discriminator.requires_grad_(False)
    decoded, nll, kl = _bound(network, images, model, normal)
    adversarial = -discriminator(decoded).float().mean()
    last = network.decoder.conv_out.weight
    first, second = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (nll, adversarial))
    weight = model.adversarial_weight * (first / (second + 1e-4)).clamp(max=1e4)
    yield "vae", nll + kl + weight * adversarial
    discriminator.requires_grad_(True)
    real, fake = discriminator(images).float(), discriminator(decoded.detach()).float()
    loss = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
    if model.penalty and step % model.penalty_every == 0:
        slope = _slope(lambda batch: discriminator(batch).mean((1, 2, 3)), images, decoded)
        loss = loss + model.penalty_every * model.penalty / 2 * slope
    yield "discriminator", loss


def _bound(network: Any, images: Tensor, model: Any, normal: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Reconstructions, and the two terms of the bound per pixel."""
    posterior = network.encode(images).latent_dist
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    decoded = network.decode(mean + (0.5 * logvar).exp() * normal(mean)).sample.float()
    constant = 0.5 * math.log(2 * math.pi * model.variance)
    nll = (decoded - images).square().mean() / (2 * model.variance) + constant
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / images.numel()
    return decoded, nll, model.kl_weight * kl


def vqvae(nets: Nets, images: Tensor, model: Any, step: int, normal: Callable[[Tensor], Tensor]) -> Updates:
    """The autoencoder's phase: straight-through codes, and the codebook as moving averages."""
    network, averages = nets["vqvae"], nets["codebook"]
    latents = network.encode(images).latents
    batch, channels, height, width = latents.shape
    flat = latents.permute(0, 2, 3, 1).reshape(-1, channels).float()
    weight = network.quantize.embedding.weight
    with torch.no_grad():
        codes = torch.cdist(flat, weight).argmin(1)
    chosen = weight[codes]
    commitment = (flat - chosen).square().mean()
    through = flat + (chosen - flat).detach()
    grid = through.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    decoded = network.decode(grid, force_not_quantize=True).sample.float()
    yield "vqvae", (decoded - images).square().mean() + model.commitment * commitment
    with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
        used, flat = one_hot(codes, model.codes).float(), flat.detach()
        averages.counts.lerp_(used.sum(0), 1 - model.codebook_decay)
        averages.totals.lerp_(used.T @ flat, 1 - model.codebook_decay)
        fair = len(flat) / model.codes
        dead = averages.counts < 0.1 * fair
        averages.counts[dead] = fair
        averages.totals[dead] = fair * flat[torch.randint(len(flat), (int(dead.sum()),), device=flat.device)]
        weight.copy_(averages.totals / averages.counts[:, None])


def gan(nets: Nets, images: Tensor, model: Any, step: int, normal: Callable[[Tensor], Tensor]) -> Updates:
    """Relativistic pairing on one batch of fakes; R1 and R2 now and then."""
    generator, discriminator = nets["gan"], nets["discriminator"]
    discriminator.requires_grad_(False)
    latents = images.new_empty(len(images), model.latent_channels, model.latent_size, model.latent_size)
    fakes = generator(normal(latents)).float()
    with torch.no_grad():
        real = discriminator(images).float()
    yield "gan", softplus(real - discriminator(fakes).float()).mean()
    discriminator.requires_grad_(True)
    fakes = fakes.detach()
    loss = softplus(discriminator(fakes).float() - discriminator(images).float()).mean()
    if step % model.penalty_every == 0:
        loss = loss + model.penalty_every * model.penalty / 2 * (_slope(discriminator, images, fakes))
    yield "discriminator", loss


def _slope(discriminator: Any, *batches: Tensor) -> Tensor:
    """R1 + R2 in fp32."""
    total = batches[0].new_zeros(())
    with torch.autocast(total.device.type, enabled=False):
        for batch in batches:
            leaf = batch.detach().float().requires_grad_()
            (gradient,) = torch.autograd.grad(discriminator(leaf).sum(), leaf, create_graph=True)
            total = total + gradient.square().sum() / len(batch)
    return total


LOSSES = {"vae": vae, "vqvae": vqvae, "gan": gan, "vaegan": vaegan}


class BareLoop:
    """One family's loop at one precision and memory format."""

    def __init__(self, config: Any, images: Tensor, precision: str, layout: torch.memory_format) -> None:
        torch.manual_seed(0)
        device = images.device
        self.model, self.batch, self.images = config.model, config.batch_size, images.to(memory_format=layout)
        self.nets = config.model.build(config.resolution, images.shape[1])
        for net in self.nets.values():
            net.to(device).to(memory_format=layout)
        self.phases = {phase.trains[0]: phase for phase in config.model.phases()}
        self.optimizers = {
            name: torch.optim.AdamW(self.nets[name].parameters(), phase.lr, phase.betas, weight_decay=0, fused=True)
            for name, phase in self.phases.items()
        }
        self.loss, self.bf16, self.index = LOSSES[config.family], precision == "bf16", 0

    def step(self) -> None:
        """See one batch."""
        picked = torch.randint(len(self.images), (self.batch,), device=self.images.device)
        updates = self.loss(self.nets, self.images[picked], self.model, self.index, torch.randn_like)
        while True:
            with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
                update = next(updates, None)
            if update is None:
                break
            name, loss = update
            loss.backward()
            clip = self.phases[name].clip
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self.nets[name].parameters(), clip)
            self.optimizers[name].step()
            self.optimizers[name].zero_grad()
        self.index += 1
