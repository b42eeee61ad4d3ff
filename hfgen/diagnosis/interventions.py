"""The chain of interventions: the same held-out images, decoded from better and from worse latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from hfgen.autoencoders import Autoencoder
from hfgen.bars import quiet
from hfgen.families.vae import FITTED_NUMBERS, FULL_COVARIANCE
from hfgen.images import to_float, to_uint8
from hfgen.metrics import linear_reconstructions
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.pipelines.finite import check_images
from hfgen.seeds import derive_seed

_MIXTURE, _IMAGES_PER_NUMBER = 10, 4
_LATENT_RATE = 0.05


def weight_of(network: Any) -> Tensor:
    """One of its weights, which says where and in which numbers it computes."""
    return next(network.parameters())


def inputs_of(network: Any, images: Tensor) -> Tensor:
    """uint8 images (N, C, R, R) as a network sees them: float32 in [-1, 1], on its device."""
    return to_float(images.to(weight_of(network).device))


def best_latents(network: Autoencoder, images: Tensor, steps: int) -> Tensor:
    """Reconstructions of uint8 images (N, C, R, R) from the latents that suit the decoder best; uint8.

    Adam on each image's squared error, from the posterior mean; the best step counts. No codebook in between.
    """
    wanted = inputs_of(network, images)
    with torch.no_grad():
        start = network.encode(wanted).mean
    return optimised(lambda z: network.decode(z, quantised=False), start, wanted, steps)


def optimised(
    decoder: Callable[[Tensor], Tensor],
    start: Tensor,
    wanted: Tensor,
    steps: int,
    penalty: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The images that `decoder` gives for latents near `start` (N, ...) with the least squared error; uint8.

    `penalty` (N,) of the latents adds to the error. The best step counts, which may be none. A descent that ends in
    NaN keeps what it had reached before.

    Raises:
        NonFinite: the decoder gives NaN or infinity from the start.
    """
    # Steps relative to the latents' own size: some autoencoders' have a deviation of .1, others of 10.
    scale = float(start.std().clamp_min(1e-3)) if start.numel() > 1 else 1.0
    latents = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([latents], _LATENT_RATE * scale)
    least = torch.full((len(wanted),), torch.inf, device=wanted.device)
    best = torch.full_like(wanted, torch.nan)
    with torch.enable_grad():
        for step in range(steps + 1):
            images = decoder(latents)
            costs = (images - wanted).square().flatten(1).sum(1)
            if penalty is not None:
                costs = costs + penalty(latents)
            with torch.no_grad():
                better = costs < least
                least[better], best[better] = costs[better], images[better]
            if step < steps:
                # Of the latents only: the network's own gradients would cost as much again.
                (latents.grad,) = torch.autograd.grad(costs.sum(), latents)
                optimizer.step()
    return _pixels(best)


@torch.no_grad()
def from_means(network: Autoencoder, images: Tensor) -> Tensor:
    """Reconstructions from the posterior's mean, or from the codes; uint8 to uint8."""
    return _pixels(network.decode(network.encode(inputs_of(network, images)).mean, quantised=True))


@torch.no_grad()
def from_unquantised(network: Autoencoder, images: Tensor) -> Tensor:
    """The same with latents that keep what the codebook would take from them."""
    return _pixels(network.decode(network.encode(inputs_of(network, images)).mean, quantised=False))


@torch.no_grad()
def from_components(network: Autoencoder, training: Tensor, images: Tensor, seed: int) -> Tensor:
    """Reconstructions from as many principal components of `training` as the latent has numbers; uint8 to uint8.

    See `hfgen.metrics.linear_reconstructions`.
    """
    numbers = network.encode(inputs_of(network, images[:1])).mean.numel()
    return linear_reconstructions(training, images, numbers, seed)


@torch.no_grad()
def from_samples(network: Autoencoder, images: Tensor, seed: int) -> Tensor:
    """Reconstructions from samples of the posterior."""
    return _pixels(network.decode(_sample(network, images, seed), quantised=True))


@torch.no_grad()
def from_low_precision(network: Autoencoder, images: Tensor) -> Tensor:
    """Reconstructions with the arithmetic of bf16, where the rest of a diagnosis computes in fp32."""
    with torch.autocast(weight_of(network).device.type, torch.bfloat16):
        return _pixels(network.decode(network.encode(inputs_of(network, images)).mean.float(), quantised=True))


class Posterior(NamedTuple):
    """What a VAE's posteriors have in common.

    `centre`, `variance` (C, h, w): of the aggregate posterior, number by number. `price`: what a squared standard
    deviation of it costs in squared error; the decoder's variance times the KL weight.
    """

    centre: Tensor
    variance: Tensor
    price: float


@torch.no_grad()
def posterior(network: Autoencoder, images: Tensor, batch: int, seed: int) -> Posterior | None:
    """The aggregate posterior of uint8 images (N, C, R, R), and the price, from it alone; None without noise.

    A VAE minimises E error + 2 price KL. Where the noise s_i of each number is at its best, it raises the error by
    s_i^2 w_i^2 = price (1 - s_i^2 / v_i), w_i the decoder's slope, v_i the prior's variance; so the price is what noise
    costs in squared error over the sum of 1 - s_i^2 / v_i (exact for linear decoders; Lucas et al., 1911.02469).
    """
    means, noise, cost = [], [], 0.0
    for index, part in enumerate(images.split(batch)):
        wanted = inputs_of(network, part)
        encoded = network.encode(wanted)
        mean, deviation = encoded.mean, encoded.deviation
        if deviation is None:
            return None
        normal = _normal(mean, derive_seed("price", seed, index))
        exact, noisy = (network.decode(z, quantised=True) for z in (mean, mean + deviation * normal))
        cost += float((noisy - wanted).square().sum() - (exact - wanted).square().sum()) / len(images)
        means.append(mean)
        noise.append(deviation.square())
    centre, spread = torch.cat(means).mean(0), torch.cat(means).var(0, correction=0)
    average = torch.cat(noise).mean(0)
    variance = (spread + average).clamp_min(1e-12)
    used = float((spread / variance).sum())
    return Posterior(centre, variance, max(cost, 0.0) / max(used, 1e-6))


def inferred(network: Autoencoder, images: Tensor, known: Posterior, steps: int) -> Tensor:
    """Reconstructions from the means that the VAE's own objective prefers, found image by image; uint8.

    Adam on the squared error + price |z - centre|^2 / variance, from the encoder's mean. What it gains is the
    encoder's gap (Cremer et al., 1801.03558): what is beyond it, in `best_latents`, the noise prevents.
    """
    wanted = inputs_of(network, images)
    with torch.no_grad():
        start = network.encode(wanted).mean

    def penalty(latents: Tensor) -> Tensor:
        return known.price * ((latents - known.centre).square() / known.variance).flatten(1).sum(1)

    return optimised(lambda z: network.decode(z, quantised=True), start, wanted, steps, penalty)


@torch.no_grad()
def from_fitted_density(network: Autoencoder, images: Tensor, count: int, batch: int, seed: int) -> Tensor:
    """`count` images decoded from a mixture of Gaussians fitted to the latents of uint8 `images`."""
    first = network.encode(inputs_of(network, images[:1])).mean
    numbers = first[0].numel()
    parts = images[: max(2, FITTED_NUMBERS // numbers)].split(batch)
    latents = torch.cat([_sample(network, part, derive_seed("density", seed, i)) for i, part in enumerate(parts)])
    components = max(1, min(_MIXTURE, len(latents) // (_IMAGES_PER_NUMBER * numbers)))
    covariance = "full" if numbers <= FULL_COVARIANCE else "diagonal"
    prior = LatentPrior(tuple(first.shape[1:]), components, covariance)
    prior.fit(latents)
    generator = torch.Generator().manual_seed(derive_seed("draw", seed))
    drawn = prior.sample(
        torch.rand(count, generator=generator), torch.randn((count, *first.shape[1:]), generator=generator)
    )
    progress = tqdm(drawn.split(batch), desc="fitted density", unit="batch", leave=False, disable=quiet())
    return torch.cat([_pixels(network.decode(part.to(first), quantised=True)) for part in progress])


def invert(generator: Any, images: Tensor, shape: tuple[int, ...], steps: int, starts: int, seed: int) -> Tensor:
    """The nearest image to each uint8 one that a generator of noise makes, by descent from `starts` latents.

    Each descent begins at the nearest of 16 random latents, since a generator's error has many local minima.
    """
    wanted, tried = inputs_of(generator, images), 16

    def draw(latents: Tensor) -> Tensor:
        return generator(latents.to(weight_of(generator).dtype)).float()

    best, least = torch.zeros_like(images), torch.full((len(images),), math.inf)
    for start in range(starts):
        noise = torch.Generator().manual_seed(derive_seed("invert", seed, start))
        latents = torch.randn((tried, *shape), generator=noise).to(wanted.device)
        with torch.no_grad():
            distances = torch.cdist(wanted.flatten(1), draw(latents).flatten(1))
        found = optimised(draw, latents[distances.argmin(1)], wanted, steps)
        errors = (inputs_of(generator, found) - wanted).square().flatten(1).mean(1).cpu()
        better = errors < least
        best[better], least[better] = found[better], errors[better]
    return best


def _pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8, on the CPU.

    Raises:
        NonFinite: NaN or infinity, which has no level.
    """
    check_images(images)
    return to_uint8(images).cpu()


def _sample(network: Autoencoder, images: Tensor, seed: int) -> Tensor:
    encoded = network.encode(inputs_of(network, images))
    return encoded.sample(_normal(encoded.mean, seed))


def _normal(like: Tensor, seed: int) -> Tensor:
    """Standard normal numbers of a tensor's shape, drawn on the CPU and moved to where it is."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like.device)
