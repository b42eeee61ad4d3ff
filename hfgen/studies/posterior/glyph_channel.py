"""From a glyph's unknowns to a model's latent: what the sampler's likelihood is made of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hfgen.data import CLASSES, FACTORS, FONTS, glyph_unknowns, render
from hfgen.errors import ModelError
from hfgen.images import to_float
from hfgen.pipelines import ImagePipeline
from hfgen.studies.posterior.tempered_sampler import LogLikelihood, Unknowns

COUNTS = (len(CLASSES), len(FONTS))
"""Values of the choices: class and font."""
PLACES = len(FACTORS) - 1
"""Size, x, y and tilt, each as its place in its range."""
_BATCH = 256


class Latents(NamedTuple):
    """q(z | x) of N images, Gaussian: means and log variances (N, D), float64."""

    mean: Tensor
    log_variance: Tensor

    def log_density(self, latent: Tensor) -> Tensor:
        """Log q(z | x) of one latent z (D,), in nats: (N,)."""
        squares = self.squares(latent)
        return -0.5 * (squares + self.log_variance + math.log(2 * math.pi)).sum(1)

    def squares(self, latent: Tensor) -> Tensor:
        """Squared residuals in standard deviations, (N, D)."""
        return (latent - self.mean).square() / self.log_variance.exp()


class GlyphChannel:
    """A model's encoder behind the renderer of glyphs.

    Args:
        pipeline: With a Gaussian posterior, of grey images.

    Raises:
        ModelError: it has none, or its images are in colour.
    """

    def __init__(self, pipeline: ImagePipeline) -> None:
        # On CPUs the encoder is twice as fast with channels last.
        self.pipeline: Any = pipeline
        for name in pipeline.component_names:
            if isinstance(network := getattr(pipeline, name), torch.nn.Module):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.resolution = pipeline.sample_size
        if pipeline.channels != 1:
            raise ModelError(f"model: its images have {pipeline.channels} channels; glyphs are grey")
        if not pipeline.can_reconstruct or pipeline.codebook_size:
            raise ModelError(
                f"model: a {pipeline.family} has no Gaussian posterior; give a VAE (for codes the likelihood is 0 or "
                "1, which this sampler can't temper)"
            )
        found = self._posterior(torch.zeros(1, 1, self.resolution, self.resolution, dtype=torch.uint8))
        if found is None:
            raise ModelError(f"model: a {pipeline.family} has no Gaussian posterior; give a VAE")
        self.latent_shape = tuple(found[0].shape[1:])

    def truth(self, index: int) -> Unknowns:
        """What held-out glyph `index` was drawn from."""
        row = glyph_unknowns("test", index, 1)
        choices = torch.tensor([[int(share * values) for share, values in zip(row[0], COUNTS, strict=False)]])
        return Unknowns(choices, torch.from_numpy(row[:, len(COUNTS) :].copy()))

    def images(self, unknowns: Unknowns) -> Tensor:
        """Glyphs, uint8 (N, 1, R, R)."""
        shares = (unknowns.choices.double() + 0.5) / torch.tensor(COUNTS)
        return render(np.concatenate([shares.numpy(), unknowns.places.numpy()], 1), self.resolution)

    def latents(self, images: Tensor) -> Latents:
        """Of uint8 images (N, 1, R, R)."""
        found = [self._posterior(part) for part in images.split(_BATCH)]
        means, log_variances = zip(*(part for part in found if part is not None), strict=True)
        return Latents(torch.cat(means).flatten(1), torch.cat(log_variances).flatten(1))

    def log_likelihood(self, latent: Tensor) -> LogLikelihood:
        """Of a latent z (D,), as a function of the unknowns."""
        return lambda unknowns: self.latents(self.images(unknowns)).log_density(latent)

    @torch.no_grad()
    def decoded(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """What the model draws from a latent z (D,): (1, R, R) in [0, 1]; a flow's noise is from the generator."""
        pipeline = self.pipeline
        latents = latent.reshape(1, *self.latent_shape).to(pipeline.device, pipeline.dtype)
        if hasattr(pipeline, "flow"):
            noise = torch.randn(1, 1, self.resolution, self.resolution, generator=generator)
            images = pipeline.flow(latents, noise.to(latents))
        else:
            images = pipeline.autoencoding_network.decode(latents).sample
        return images[0].float().cpu().add(1).div(2).clamp(0, 1)

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        found = self.pipeline.posterior(to_float(images).contiguous(memory_format=torch.channels_last))
        return None if found is None else (found[0].cpu().double(), found[1].cpu().double())
