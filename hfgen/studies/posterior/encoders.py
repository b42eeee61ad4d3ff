"""What a model's encoder says of images, and how likely a latent is by it: Gaussian posteriors, and codes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hfgen.errors import ModelError
from hfgen.images import to_float
from hfgen.pipelines import ImagePipeline

_BATCH = 256
# Degrees of freedom of Student's t, for guesses of a posterior: a Gaussian's tails would rule out what is only doubted.
_TAILS = 8
# Of codes' temperature, in squares of the distance from a code to the nearest other one.
_TEMPERATURE = 0.02


class GaussianEncoder:
    """q(z | x) with diagonal covariance; a latent z is (D,), and statistics (N, 2 D) are means and log variances."""

    def __init__(self, pipeline: ImagePipeline) -> None:
        self.pipeline: Any = pipeline
        found = pipeline.posterior(torch.zeros(1, pipeline.channels, *[pipeline.sample_size] * 2))
        if found is None:
            raise ModelError(f"model: a {pipeline.family} has neither a Gaussian posterior nor codes; give a VAE")
        self.latent_shape = tuple(found[0].shape[1:])

    def statistics(self, images: Tensor) -> Tensor:
        """Of uint8 images (N, 1, R, R): float64."""
        return _in_batches(lambda part: torch.cat([one.flatten(1) for one in self.pipeline.posterior(part)], 1), images)

    def draw(self, statistics: Tensor, generator: torch.Generator) -> Tensor:
        """A latent of one image, statistics (1, 2 D)."""
        mean, log_variance = statistics[0].chunk(2)
        normal = torch.randn(len(mean), generator=generator, dtype=torch.float64)
        return mean + (log_variance / 2).exp() * normal

    def squares(self, statistics: Tensor, latent: Tensor) -> Tensor:
        """Squared residuals in standard deviations, summed over the D numbers: chi^2 where the latent is drawn. (N,)"""
        mean, log_variance = statistics.chunk(2, 1)
        return ((latent - mean).square() / log_variance.exp()).sum(1)

    def log_density(self, statistics: Tensor, latent: Tensor) -> Tensor:
        """Log q(z | x) in nats, (N,)."""
        _, log_variance = statistics.chunk(2, 1)
        return -0.5 * (self.squares(statistics, latent) + (log_variance + math.log(2 * math.pi)).sum(1))

    def log_guess(self, statistics: Tensor, doubt: Tensor, latent: Tensor) -> Tensor:
        """The same from statistics that are guessed with variance `doubt`, alike: wider, with heavier tails."""
        mean, log_variance = statistics.chunk(2, 1)
        variance = log_variance.exp() + doubt.chunk(2, 1)[0]
        squares = ((latent - mean).square() / variance).sum(1)
        return -0.5 * ((_TAILS + len(latent)) * (squares / _TAILS).log1p() + variance.log().sum(1))

    def exact(self, values: Tensor) -> Tensor:
        """Which draws with these log densities are of the posterior: all."""
        return torch.ones_like(values, dtype=torch.bool)

    def rate_nats(self, statistics: Tensor) -> float:
        """KL to N(0, I) of one image's posterior."""
        mean, log_variance = statistics[0].chunk(2)
        return float(0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum())

    @torch.no_grad()
    def decoded(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """What the model draws from a latent: (1, R, R) in [0, 1]; a flow's noise is from the generator."""
        pipeline = self.pipeline
        latents = latent.reshape(1, *self.latent_shape).to(pipeline.device, pipeline.dtype)
        if hasattr(pipeline, "flow"):
            side = pipeline.sample_size
            images = pipeline.flow(latents, torch.randn(1, 1, side, side, generator=generator).to(latents))
        else:
            images = pipeline.autoencoding_network.decode(latents).sample
        return _unit(images)


class CodeEncoder:
    """A codebook c_k (K, d) and L codes an image; a latent is (L,) codes, and statistics (N, L d) vectors e(x).

    The probability of codes given x is 0 or 1, which can't be tempered. Instead log p_T(codes | x) is the sum of
    (min_k |e - c_k|^2 - |e - c|^2) / T: softmax(-|e - c_k|^2 / T) up to its normaliser, with the same limit at T = 0.
    It is 0 where all codes are the nearest ones, so the draws of its posterior for which it is 0 are draws of the
    exact one, at any T.
    """

    def __init__(self, pipeline: ImagePipeline) -> None:
        self.network: Any = pipeline.autoencoding_network
        self.pipeline: Any = pipeline
        self.codebook = self.network.quantize.embedding.weight.detach().cpu().double()
        apart = torch.cdist(self.codebook, self.codebook).fill_diagonal_(math.inf).min(1).values
        # Codes that are never used may coincide; the median is of those that are apart.
        self.spacing = float(apart[apart > 1e-6].median())
        self.temperature = _TEMPERATURE * self.spacing**2

    @torch.no_grad()
    def statistics(self, images: Tensor) -> Tensor:
        """Of uint8 images (N, 1, R, R): float64."""

        def encode(part: Tensor) -> Tensor:
            found = self.network.encode(part.to(self.pipeline.device, self.pipeline.dtype)).latents
            self.side = found.shape[-1]
            return found.flatten(2).mT.flatten(1).float()

        return _in_batches(encode, images)

    def draw(self, statistics: Tensor, generator: torch.Generator) -> Tensor:
        """The codes of one image: no chance is in them."""
        return self._distances(statistics)[0].argmin(1)

    def squares(self, statistics: Tensor, latent: Tensor) -> Tensor:
        """No residuals: a draw has the codes or hasn't. (N,)"""
        return torch.zeros(len(statistics), dtype=torch.float64)

    def log_density(self, statistics: Tensor, latent: Tensor) -> Tensor:
        """Log p_T in nats, (N,); 0 where the codes are the image's."""
        return -self._excess(statistics, latent).sum(1) / self.temperature

    def log_guess(self, statistics: Tensor, doubt: Tensor, latent: Tensor) -> Tensor:
        """The same from statistics that are guessed with variance `doubt`, alike: at a higher temperature."""
        deviation = doubt.unflatten(1, (len(latent), -1)).mean(2).sqrt()
        return -(self._excess(statistics, latent) / (self.temperature + 2 * self.spacing * deviation)).sum(1)

    def exact(self, values: Tensor) -> Tensor:
        """Which draws with these log densities have the codes."""
        return values > -1e-9

    def rate_nats(self, statistics: Tensor) -> float:
        """Of codes that are all as likely."""
        return statistics.shape[1] // self.codebook.shape[1] * math.log(len(self.codebook))

    @torch.no_grad()
    def decoded(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """What the model draws from codes: (1, R, R) in [0, 1]."""
        side = math.isqrt(len(latent))
        vectors = self.network.quantize.embedding(latent.to(self.pipeline.device))
        latents = vectors.T.reshape(1, -1, side, side).to(self.pipeline.dtype)
        return _unit(self.network.decode(latents, force_not_quantize=True).sample)

    def _distances(self, statistics: Tensor) -> Tensor:
        """Squared, (N, L, K)."""
        vectors = statistics.unflatten(1, (-1, self.codebook.shape[1]))
        return vectors.square().sum(2, keepdim=True) - 2 * vectors @ self.codebook.T + self.codebook.square().sum(1)

    def _excess(self, statistics: Tensor, latent: Tensor) -> Tensor:
        """By how much the codes are farther than the nearest ones, (N, L); exactly 0 where they are these."""
        distances = self._distances(statistics)
        own = distances.gather(2, latent.expand(len(distances), -1)[..., None])[..., 0]
        return own - distances.min(2).values


Encoder = GaussianEncoder | CodeEncoder


def encoder_of(pipeline: ImagePipeline) -> Encoder:
    """Of a loaded model.

    Raises:
        ModelError: it reconstructs nothing, or has neither a Gaussian posterior nor codes.
    """
    if not pipeline.can_reconstruct:
        raise ModelError(f"model: a {pipeline.family} has no encoder; give a VAE or a VQ-VAE")
    return CodeEncoder(pipeline) if pipeline.codebook_size else GaussianEncoder(pipeline)


def _in_batches(encode: Any, images: Tensor) -> Tensor:
    found = [encode(to_float(part).contiguous(memory_format=torch.channels_last)) for part in images.split(_BATCH)]
    return torch.cat([part.cpu() for part in found]).double()


def _unit(images: Tensor) -> Tensor:
    return images[0].float().cpu().add(1).div(2).clamp(0, 1)
