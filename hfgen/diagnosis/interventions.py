"""The chain of interventions: the same held-out images, decoded from better and from worse latents."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from hfgen.diagnosis.networks import decode, encode
from hfgen.families.vae import FITTED_NUMBERS, FULL_COVARIANCE
from hfgen.images import to_float, to_uint8
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.seeds import derive_seed

_COMPONENTS, _IMAGES_PER_NUMBER = 10, 4
_LATENT_RATE = 0.05
_ACTIVE = 0.01


def best_latents(network: Any, images: Tensor, steps: int) -> Tensor:
    """Reconstructions of uint8 images (N, C, R, R) from the latents that suit the decoder best; uint8.

    Adam on each image's squared error, from the posterior mean; the best step counts. No codebook in between.
    """
    wanted = to_float(images)
    with torch.no_grad():
        start = encode(network, wanted).mean
    return optimised(lambda z: decode(network, z, quantised=False), start, wanted, steps)


def optimised(decoder: Any, start: Tensor, wanted: Tensor, steps: int) -> Tensor:
    """The images that `decoder` gives for latents near `start` (N, ...) with the least error against `wanted`."""
    # Steps relative to the latents' own size: some autoencoders' have a deviation of .1, others of 10.
    scale = float(start.std().clamp_min(1e-3)) if start.numel() > 1 else 1.0
    latents = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([latents], _LATENT_RATE * scale)
    least = torch.full((len(wanted),), torch.inf)
    best = torch.empty_like(wanted)
    with torch.enable_grad():
        for step in range(steps + 1):
            images = decoder(latents)
            errors = (images - wanted).square().flatten(1).mean(1)
            with torch.no_grad():
                better = errors < least
                least[better], best[better] = errors[better], images[better]
            if step < steps:
                # Of the latents only: the network's own gradients would cost as much again.
                (latents.grad,) = torch.autograd.grad(errors.sum(), latents)
                optimizer.step()
    return to_uint8(best)


@torch.no_grad()
def from_means(network: Any, images: Tensor) -> Tensor:
    """Reconstructions from the posterior's mean, or from the codes; uint8 to uint8."""
    return to_uint8(decode(network, encode(network, to_float(images)).mean, quantised=True))


@torch.no_grad()
def from_unquantised(network: Any, images: Tensor) -> Tensor:
    """The same with latents that keep what the codebook would take from them."""
    return to_uint8(decode(network, encode(network, to_float(images)).mean, quantised=False))


@torch.no_grad()
def from_samples(network: Any, images: Tensor, seed: int) -> Tensor:
    """Reconstructions from samples of the posterior."""
    return to_uint8(decode(network, _sample(network, images, seed), quantised=True))


@torch.no_grad()
def from_low_precision(network: Any, images: Tensor) -> Tensor:
    """Reconstructions with the arithmetic of bf16, where the rest of a diagnosis computes in fp32."""
    with torch.autocast("cpu", torch.bfloat16):
        return to_uint8(decode(network, encode(network, to_float(images)).mean.float(), quantised=True))


@torch.no_grad()
def unshrunk(network: Any, images: Tensor, spread: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Reconstructions from means moved off the centre as far as the noise had drawn them there.

    A linear VAE's mean is that of least squares times v / (v + s), v the variance of the means and s that of the
    noise (Lucas et al., 1911.02469). `spread`: centre, v and s of each latent number.
    """
    centre, means, noise = spread
    factor = torch.where(means > _ACTIVE * (means + noise), (means + noise) / means.clamp_min(1e-12), 1.0)
    latents = encode(network, to_float(images)).mean
    return to_uint8(decode(network, centre + (latents - centre) * factor, quantised=True))


@torch.no_grad()
def latent_spread(network: Any, images: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Mean and variance of the posterior means, and the mean variance of the noise; None without noise."""
    found = [encode(network, to_float(part)) for part in images.split(batch)]
    if found[0].deviation is None:
        return None
    means = torch.cat([latents.mean for latents in found])
    noise = torch.cat([latents.deviation.square() for latents in found if latents.deviation is not None])
    return means.mean(0), means.var(0, correction=0), noise.mean(0)


@torch.no_grad()
def from_fitted_density(network: Any, images: Tensor, count: int, batch: int, seed: int) -> Tensor:
    """`count` images decoded from a mixture of Gaussians fitted to the latents of uint8 `images`."""
    first = encode(network, to_float(images[:1])).mean
    numbers = first[0].numel()
    parts = images[: max(2, FITTED_NUMBERS // numbers)].split(batch)
    latents = torch.cat([_sample(network, part, derive_seed("density", seed, i)) for i, part in enumerate(parts)])
    components = max(1, min(_COMPONENTS, len(latents) // (_IMAGES_PER_NUMBER * numbers)))
    covariance = "full" if numbers <= FULL_COVARIANCE else "diagonal"
    prior = LatentPrior(tuple(first.shape[1:]), components, covariance)
    prior.fit(latents)
    generator = torch.Generator().manual_seed(derive_seed("draw", seed))
    drawn = prior.sample(
        torch.rand(count, generator=generator), torch.randn((count, *first.shape[1:]), generator=generator)
    )
    progress = tqdm(drawn.split(batch), desc="fitted density", unit="batch", leave=False)
    return torch.cat([to_uint8(decode(network, part.to(first), quantised=True)) for part in progress])


def invert(generator: Any, images: Tensor, shape: tuple[int, ...], steps: int, starts: int, seed: int) -> Tensor:
    """The nearest image to each uint8 one that a generator of noise makes, by descent from `starts` latents.

    Each descent begins at the nearest of 16 random latents, since a generator's error has many valleys.
    """
    wanted, tried = to_float(images), 16
    best, least = torch.empty_like(images), torch.full((len(images),), math.inf)
    for start in range(starts):
        noise = torch.Generator().manual_seed(derive_seed("invert", seed, start))
        latents = torch.randn((tried, *shape), generator=noise)
        with torch.no_grad():
            distances = torch.cdist(wanted.flatten(1), generator(latents).flatten(1))
        found = optimised(generator, latents[distances.argmin(1)], wanted, steps)
        errors = (to_float(found) - wanted).square().flatten(1).mean(1)
        better = errors < least
        best[better], least[better] = found[better], errors[better]
    return best


def _sample(network: Any, images: Tensor, seed: int) -> Tensor:
    mean, deviation = encode(network, to_float(images))
    if deviation is None:
        return mean
    return mean + deviation * torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
