"""Interventions on the latent: reconstruction with noise, without quantisation, or of some channels; interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hfgen.images import to_float, to_uint8
from hfgen.metrics import kl_bits
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of


@dataclass(frozen=True)
class Knobs:
    """What is done to a latent before it is decoded. By default, what `pipeline.reconstruct` does.

    Attributes:
        noise: Decode a sample of the posterior, drawn by `seed`, instead of its mean.
        quantise: Decode the codebook's vectors; else the encoder's own.
        channels: Keep the first so many channels and set the others to 0; None keeps all.
        seed: Of the noise.
    """

    noise: bool = False
    quantise: bool = True
    channels: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Reconstructed:
    """Reconstructions, uint8 (N, C, R, R), and the bits that each one's latent costs, (N,); None: no finite number."""

    images: Tensor
    rate_bits: Tensor | None


@torch.no_grad()
def reconstruct(pipeline: ImagePipeline, images: Tensor, knobs: Knobs) -> Reconstructed:
    """Encode uint8 images (N, C, R, R), set the knobs that the model has, and decode.

    The rate is KL(q(z | x) || N(0, I)) of the channels kept, or as many codes of log2(codebook size) bits.
    """
    codec = codec_of(pipeline)
    if codec is None:
        return Reconstructed(
            to_uint8(pipeline.reconstruct(to_float(images), output_type="pt").images.cpu() * 2 - 1), None
        )
    encoded = codec.encode(to_float(images).to(pipeline.device))
    latents, bits = encoded.mean, None
    if encoded.log_variance is not None:
        kept = slice(0, knobs.channels)
        bits = kl_bits(*(part.cpu()[:, kept] for part in (encoded.mean, encoded.log_variance)))
        if knobs.noise:
            generator = torch.Generator().manual_seed(knobs.seed)
            latents = encoded.sample(torch.randn(latents.shape, generator=generator))
    if codec.codebook_size and knobs.quantise:
        codes = latents.shape[-2] * latents.shape[-1]
        latents, bits = codec.quantise(latents), torch.full((len(images),), codes * math.log2(codec.codebook_size))
    return Reconstructed(to_uint8(codec.decode(_keep(latents, knobs.channels), quantised=False).cpu()), bits)


def latent_channels(pipeline: ImagePipeline) -> int:
    """How many channels its latent has; 0 where there are none to set."""
    codec = codec_of(pipeline)
    return 0 if codec is None else codec.latent_channels


@torch.no_grad()
def interpolate(pipeline: ImagePipeline, first: int, second: int, steps: int) -> Tensor:
    """Images between those of two seeds, uint8 (steps, C, R, R); the ends are the seeds' own.

    A GAN's latents move on the sphere (White, 1609.04468), since all its training latents lie near one. A VAE's move
    on the straight line. A VQ-VAE's codebook vectors do too, and are then quantised again. Of a flow's two draws the
    latent moves on the line, the noise on the sphere.
    """
    shares = torch.linspace(0, 1, steps, dtype=torch.float64)
    if hasattr(pipeline, "flow"):
        (start, quiet), (end, loud) = (pipeline.draw([torch.Generator().manual_seed(seed)]) for seed in (first, second))
        path = torch.cat([start + (end - start) * float(share) for share in shares])
        noise = torch.cat([_on_sphere(quiet, loud, float(share)) for share in shares])
        return to_uint8(pipeline.flow(path, noise).cpu())
    ends = [_latents(pipeline, seed) for seed in (first, second)]
    (start, *conditions), (end, *_) = ends
    if (generator := pipeline.generator_network) is not None:
        path = torch.cat([_on_sphere(start, end, float(share)) for share in shares])
        labels = [condition.expand(steps) for condition in conditions]
        return to_uint8(generator(path, *labels).cpu())
    path = torch.cat([start + (end - start) * float(share) for share in shares])
    codec = codec_of(pipeline)
    assert codec is not None, "what draws from a latent without a GAN decodes it"
    return to_uint8(codec.decode(path).cpu())


def _keep(latents: Tensor, channels: int | None) -> Tensor:
    if channels is None or channels >= latents.shape[1]:
        return latents
    kept = latents.clone()
    kept[:, channels:] = 0
    return kept


def _latents(pipeline: ImagePipeline, seed: int) -> list[Tensor]:
    """What the first layer of the decoder is given for a seed's image, and its class, if there is one."""
    network = pipeline.generator_network
    if network is None:
        codec = codec_of(pipeline)
        assert codec is not None, "as above"
        network = getattr(codec.network, "post_quant_conv", None) or codec.network.decoder
    seen: list[tuple[Tensor, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    try:
        pipeline(batch_size=1, generator=torch.Generator().manual_seed(seed), output_type="pt")
    finally:
        hook.remove()
    return [value for value in seen[0] if isinstance(value, Tensor)]


def _on_sphere(start: Tensor, end: Tensor, share: float) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0).clamp(-1, 1)
    angle = float(torch.acos(cosine))
    if math.sin(angle) < 1e-6:
        return start + (end - start) * share
    return (start * math.sin((1 - share) * angle) + end * math.sin(share * angle)) / math.sin(angle)
