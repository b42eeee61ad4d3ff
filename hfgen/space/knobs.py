"""Interventions on the latent: fewer components, noise, means of draws, no quantiser; and interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfgen.autoencoders import Autoencoder
from hfgen.images import to_float, to_uint8
from hfgen.metrics import kl_bits
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of

DRAWS, FEW_DRAWS = 16, 4
_MOST_PIXELS = 256 * 32**2
_MOST_WHOLE = 256


@dataclass(frozen=True)
class Knobs:
    """What is done to a latent before it is decoded. By default, what `pipeline.reconstruct` does.

    Attributes:
        keep: Share of the latent's principal components, the strongest first, that stay; the others get their mean.
        noise: Gaussian noise that is added, in standard deviations of the latent over held-out images.
        average: Show the mean of several draws of the noise instead of the first.
        posterior: Decode a sample of the posterior instead of its mean.
        quantise: Decode the codebook's vectors; else the encoder's own.
        seed: Of the noise and of the posterior's sample.
    """

    keep: float = 1.0
    noise: float = 0.0
    average: bool = False
    posterior: bool = False
    quantise: bool = True
    seed: int = 0

    @property
    def draws(self) -> bool:
        """Whether chance has a part in it."""
        return self.noise > 0 or self.posterior


@dataclass(frozen=True)
class Components:
    """The principal components of a model's latents, and how far these spread.

    Attributes:
        mean: (d,), of the latent's d numbers, or of its d channels where it has more than 256 numbers.
        directions: (d, d): a row a component, the strongest first.
        deviation: (1, c, 1, 1): each channel's standard deviation.
    """

    mean: Tensor
    directions: Tensor
    deviation: Tensor

    def __len__(self) -> int:
        return len(self.directions)

    def kept(self, share: float) -> int:
        """How many components a share is, rounded up."""
        return math.ceil(share * len(self) - 1e-9)

    def project(self, latents: Tensor, count: int) -> Tensor:
        """Latents (N, c, h, w) with the strongest `count` components; of the others the mean."""
        whole = len(self) != latents.shape[1]
        rows = latents.flatten(1) if whole else latents.movedim(1, -1)
        first = self.directions[:count].to(rows)
        mean = self.mean.to(rows)
        rows = mean + (rows - mean) @ first.T @ first
        return rows.view_as(latents) if whole else rows.movedim(-1, 1)


@torch.no_grad()
def components(pipeline: ImagePipeline, images: Tensor) -> Components | None:
    """Of the first of uint8 held-out images (N, C, R, R): 256 of 32 pixels, fewer of larger ones; None: no latent."""
    codec = _codec(pipeline)
    if codec is None:
        return None
    count = max(2, _MOST_PIXELS // images.shape[-1] ** 2)
    batches = to_float(images[:count]).to(pipeline.device).split(64)
    latents = torch.cat([codec.encode(batch).mean.cpu() for batch in batches]).double()
    whole = component_count(latents) != latents.shape[1]
    rows = latents.flatten(1) if whole else latents.movedim(1, -1).flatten(0, -2)
    mean = rows.mean(0)
    _, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean))
    deviation = latents.std((0, 2, 3), correction=0)[None, :, None, None]
    return Components(mean, directions.T.flip(0).contiguous(), deviation)


def component_count(latents: Tensor) -> int:
    """How many principal components latents (N, c, h, w) have: see `Components.mean`."""
    numbers = latents[0].numel()
    return numbers if numbers <= _MOST_WHOLE else latents.shape[1]


@torch.no_grad()
def decoder_inputs(pipeline: ImagePipeline, images: Tensor) -> Tensor | None:
    """What the decoder is given of uint8 images (N, C, R, R), (N, c, h, w); None: its latent can't be changed."""
    codec = _codec(pipeline)
    if codec is None:
        return None
    latents = codec.encode(to_float(images).to(pipeline.device)).mean
    return (codec.quantise(latents) if codec.codebook_size else latents).cpu()


def same_encoder(first: Tensor, second: Tensor) -> bool:
    """Whether two models make the same `decoder_inputs` of the same images."""
    if first.shape != second.shape:
        return False
    return torch.allclose(first, second, rtol=0, atol=1e-4 * float(first.std()))


def _codec(pipeline: ImagePipeline) -> Autoencoder | None:
    """How it makes latents and (a flow excepted) decodes them; None: it has none that can be changed."""
    return Autoencoder(pipeline.vae) if hasattr(pipeline, "flow") else codec_of(pipeline)


@dataclass(frozen=True)
class Reconstructed:
    """Reconstructions, uint8 (N, C, R, R), and the bits that each one's latent costs, (N,); None: not known."""

    images: Tensor
    rate_bits: Tensor | None


@torch.no_grad()
def reconstruct(
    pipeline: ImagePipeline, images: Tensor, knobs: Knobs, found: Components | None = None
) -> Reconstructed:
    """Encode uint8 images (N, C, R, R), set the knobs that the model has, and decode.

    The latent is cut to the components kept, moved by the noise, then quantised where there is a codebook. `found`
    are the model's `components`, which `keep` and `noise` need. The rate is KL(q(z | x) || N(0, I)), or as many codes
    of log2(codebook size) bits; it is not known of a latent that `keep` or `noise` changed.
    """
    codec = _codec(pipeline)
    if codec is None:
        made = pipeline.reconstruct(to_float(images), output_type="pt").images
        return Reconstructed(to_uint8(made.cpu() * 2 - 1), None)
    encoded = codec.encode(to_float(images).to(pipeline.device))
    count = len(images)
    draws = draws_of(images.shape[-1]) if knobs.average and knobs.draws else 1
    generator = torch.Generator().manual_seed(knobs.seed)
    normal = [torch.randn((draws, *encoded.mean.shape), generator=generator) for _ in range(2)]
    latents = encoded.mean[None].expand(draws, *encoded.mean.shape)
    if knobs.posterior:
        latents = torch.stack([encoded.sample(noise) for noise in normal[0]])
    latents = latents.flatten(0, 1)
    if found is not None and knobs.keep < 1:
        latents = found.project(latents, found.kept(knobs.keep))
    if found is not None and knobs.noise > 0:
        latents = latents + knobs.noise * found.deviation.to(latents) * normal[1].flatten(0, 1).to(latents)
    bits = None
    if codec.codebook_size and knobs.quantise:
        latents = codec.quantise(latents)
        bits = torch.full((count,), latents.shape[-2] * latents.shape[-1] * math.log2(codec.codebook_size))
    elif encoded.log_variance is not None:
        bits = kl_bits(encoded.mean.cpu(), encoded.log_variance.cpu())
    if hasattr(pipeline, "flow"):
        decoded = pipeline.flow(latents, _noise_of(pipeline, images).repeat(draws, 1, 1, 1))
    else:
        decoded = codec.decode(latents, quantised=False)
    decoded = decoded.cpu().unflatten(0, (draws, count)).clamp(-1, 1).mean(0)
    return Reconstructed(to_uint8(decoded), bits if knobs.keep >= 1 and not knobs.noise else None)


def _noise_of(pipeline: ImagePipeline, images: Tensor) -> Tensor:
    """What a flow begins with when it reconstructs these images, (N, C, R, R)."""
    seen = _first_inputs(pipeline.unet, lambda: pipeline.reconstruct(to_float(images), output_type="pt", steps=1))
    return seen[0][:, : pipeline.channels]


def draws_of(side: int) -> int:
    """How many draws of the noise are averaged for images of this side."""
    return DRAWS if side <= 64 else FEW_DRAWS


def changeable(pipeline: ImagePipeline) -> bool:
    """Whether its latent can be changed here."""
    return _codec(pipeline) is not None


@torch.no_grad()
def interpolate(pipeline: ImagePipeline, first: int, second: int, steps: int) -> Tensor:
    """Images between those of two seeds, uint8 (steps, C, R, R); the ends are the seeds' own.

    A GAN's latents move on the sphere (White, 1609.04468), since all its training latents lie near one; where it draws
    by class, the class's embedding moves on the straight line (Brock, 1809.11096). A VAE's latents move on that line.
    A VQ-VAE's codebook vectors do too, and are then quantised again. Of a flow's two draws the latent moves on the
    line, the noise on the sphere.
    """
    shares = torch.linspace(0, 1, steps, dtype=torch.float64)
    if hasattr(pipeline, "flow"):
        (start, quiet), (end, loud) = (pipeline.draw([torch.Generator().manual_seed(seed)]) for seed in (first, second))
        path = torch.cat([start + (end - start) * float(share) for share in shares])
        noise = torch.cat([_on_sphere(quiet, loud, float(share)) for share in shares])
        return to_uint8(pipeline.flow(path, noise).cpu())
    ends = [_latents(pipeline, seed) for seed in (first, second)]
    (start, *first_class), (end, *second_class) = ends
    if (generator := pipeline.generator_network) is not None:
        path = torch.cat([_on_sphere(start, end, float(share)) for share in shares])
        with _between_classes(generator, first_class, second_class, shares):
            return to_uint8(generator(path, *(label.expand(steps) for label in first_class)).cpu())
    path = torch.cat([start + (end - start) * float(share) for share in shares])
    codec = codec_of(pipeline)
    assert codec is not None, "what draws from a latent without a GAN decodes it"
    return to_uint8(codec.decode(path).cpu())


@contextmanager
def _between_classes(
    network: torch.nn.Module, first: list[Tensor], second: list[Tensor], shares: Tensor
) -> Iterator[None]:
    """Meanwhile the class's embedding moves from that of one label (1,) to that of the other, if there are any."""
    embedding = getattr(network, "class_embedding", None)
    if embedding is None:
        yield
        return
    start, end = (embedding(label) for (label,) in (first, second))
    path = start + (end - start) * shares[:, None].to(start)
    hook = embedding.register_forward_hook(lambda module, inputs, output: path)
    try:
        yield
    finally:
        hook.remove()


def _latents(pipeline: ImagePipeline, seed: int) -> list[Tensor]:
    """What the first layer of the decoder is given for a seed's image, and its class, if there is one."""
    network = pipeline.generator_network
    if network is None:
        codec = codec_of(pipeline)
        assert codec is not None, "as above"
        network = getattr(codec.network, "post_quant_conv", None) or codec.network.decoder
    generator = torch.Generator().manual_seed(seed)
    return _first_inputs(network, lambda: pipeline(batch_size=1, generator=generator, output_type="pt"))


def _first_inputs(network: torch.nn.Module, run: Callable[[], Any]) -> list[Tensor]:
    """The tensors that the network is given when it is called first."""
    seen: list[tuple[Any, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    try:
        run()
    finally:
        hook.remove()
    return [value for value in seen[0] if isinstance(value, Tensor)]


def _on_sphere(start: Tensor, end: Tensor, share: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0).clamp(-1, 1)
    angle = float(torch.acos(cosine))
    if math.sin(angle) < 1e-6:
        return start + (end - start) * share
    return (start * math.sin((1 - share) * angle) + end * math.sin(share * angle)) / math.sin(angle)
