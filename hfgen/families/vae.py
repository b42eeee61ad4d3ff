"""Variational autoencoder (Kingma and Welling, 1312.6114), published as a stock `AutoencoderKL`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hfgen.errors import UserError
from hfgen.models.decoder import decoder_arguments
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.models.initialise import initialise
from hfgen.objectives.kl import kl_above, kl_per_channel
from hfgen.objectives.reconstruction import (
    LearnedVariance,
    gaussian_nll,
    laplace_nll,
    logistic_nll,
    optimal_variance,
)
from hfgen.pipelines import VAEPipeline
from hfgen.setting_bounds import at_least, positive, share
from hfgen.training.phases import Family, Loss, Networks, Phase, Step
from hfgen.training.schedules import ramp

# What a prior is fitted to: so many latents, fewer where they hold more numbers in all than memory should.
FITTED_IMAGES = 4096
FITTED_NUMBERS = 2**25
# The largest latent with a full covariance.
FULL_COVARIANCE = 1024

_NLL: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "gaussian": gaussian_nll,
    "learned": gaussian_nll,
    "calibrated": gaussian_nll,
    "laplace": laplace_nll,
    "logistic": logistic_nll,
}


@dataclasses.dataclass(frozen=True)
class VAE(Family):
    """Settings of a VAE.

    Args:
        latent_channels: Channels of the latent.
        latent_size: Side of the latent grid; 1 is a vector.
        width: Channels of the blocks at full resolution.
        max_width: Most channels of any block.
        layers_per_block: Residual layers of an encoder's block; a decoder's has one more.
        attention: Attend over the latent grid between encoder and decoder, as Stable Diffusion's autoencoder does.
        freeze_encoder: Train the decoder alone, so that the latents stay those of the model that the run starts from.
        likelihood: Of p(image | latent), by pixel: gaussian (L2), laplace (L1) or logistic (on the 256 levels), all
            with `variance`; or Gaussian with a variance that is learned, or calibrated (each batch's own MSE).
        variance: Of a pixel given the latent, pixels in [-1, 1]; where it is learned, its first value.
        kl_weight: Weight of the KL term; 1 is the evidence lower bound.
        kl_warmup: Share of the run over which that weight rises from 0, so that the latent is used.
        free_bits: Of KL per latent channel, as the mean over a batch, below which less KL doesn't lower the loss.
        prior: What samples are decoded from: normal is N(0, I); gaussian and mixture are fitted to the latents of the
            first 4,096 images that the run sees, with full covariances up to 1,024 numbers, else with diagonal ones.
        prior_components: Gaussians in a mixture; fewer where each would have less than 4 images a number.
        lr: Peak learning rate.
    """

    latent_channels: int = 4
    latent_size: int = 2
    width: int = 16
    max_width: int = 64
    layers_per_block: int = 1
    attention: bool = False
    freeze_encoder: bool = False
    likelihood: Literal["gaussian", "learned", "calibrated", "laplace", "logistic"] = "gaussian"
    variance: float = 0.02
    kl_weight: float = 1.0
    kl_warmup: float = 0.2
    free_bits: float = 0.0
    prior: Literal["normal", "gaussian", "mixture"] = "mixture"
    prior_components: int = 10
    lr: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what is no density."""
        positive(self, "variance", "lr")
        share(self, "kl_warmup")
        at_least(0, self, "kl_weight", "free_bits")
        at_least(1, self, "latent_channels", "latent_size", "prior_components")

    @property
    def needs_start(self) -> str | None:
        """A frozen encoder must have learnt something."""
        if not self.freeze_encoder:
            return None
        return "model.freeze_encoder: true keeps random weights; give start_from MODEL, or false"

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """`vae`; `likelihood`, where its variance is learned; `prior`, where it is fitted."""
        from diffusers import AutoencoderKL

        arguments = decoder_arguments(
            resolution,
            channels,
            self.latent_channels,
            self.latent_size,
            self.width,
            self.max_width,
            self.layers_per_block,
            self.attention,
        )
        vae = AutoencoderKL(**arguments, scaling_factor=1.0, force_upcast=False)
        initialise(vae)
        if self.freeze_encoder:
            for module in (vae.encoder, vae.quant_conv):
                module.requires_grad_(False)
        networks: dict[str, nn.Module] = {"vae": vae}
        if self.likelihood == "learned":
            networks["likelihood"] = LearnedVariance(self.variance)
        if self.prior != "normal":
            networks["prior"] = self._build_prior()
        return networks

    def _build_prior(self) -> LatentPrior:
        shape = (self.latent_channels, self.latent_size, self.latent_size)
        full = math.prod(shape) <= FULL_COVARIANCE
        components = self.prior_components if self.prior == "mixture" else 1
        if full:
            # With fewer images than that, most of a covariance is noise.
            components = max(1, min(components, FITTED_IMAGES // (4 * math.prod(shape))))
        return LatentPrior(shape, components, "full" if full else "diagonal")

    def phases(self) -> list[Phase]:
        """The negative evidence lower bound, as one phase."""
        trains = ("vae", "likelihood") if self.likelihood == "learned" else ("vae",)
        # Frozen latents keep the statistics that they came with.
        fit = partial(fit_latents, statistics=not self.freeze_encoder)
        return [Phase("vae", trains, self._loss, self.lr, clip=1.0, fit=fit)]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        return self._bound(networks, step)[2]

    def _bound(self, networks: Networks, step: Step) -> tuple[Tensor, Tensor, Loss]:
        """The reconstructions (n, C, R, R), their nll per pixel, and the loss that it is a part of."""
        vae, images = networks["vae"], step.images
        posterior = vae.encode(images).latent_dist
        noise = step.draws.normal(tuple(posterior.mean.shape))
        means = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = kl_per_channel(posterior.mean, posterior.logvar)
        variance = self._variance(networks, step, means)
        nll = _NLL[self.likelihood](images, means, variance).mean()
        mse = (means.detach() - images).square().mean()
        terms = {"mse": mse, "kl": kl.detach().sum(1).mean(), "nll": nll.detach()}
        if isinstance(variance, Tensor):
            terms["variance"] = variance.detach()
        cost = kl_above(kl, self.free_bits * math.log(2), step.gather) if self.free_bits else kl.sum(1).mean()
        pixels = images[0].numel()
        total = (nll + self.kl_weight * ramp(step.progress, 0.0, self.kl_warmup) * cost) / pixels
        return means, nll / pixels, Loss(total, terms)

    def _variance(self, networks: Networks, step: Step, means: Tensor) -> float | Tensor:
        if self.likelihood == "learned":
            return networks["likelihood"]()
        if self.likelihood == "calibrated":
            return optimal_variance(step.images, means, step.gather)
        return self.variance

    def pipeline(self, networks: Networks) -> VAEPipeline:
        """Decode the prior, or reconstruct."""
        return VAEPipeline(vae=networks["vae"], prior=networks.get("prior"))


def fit_latents(averages: Networks, first: Callable[[int], Iterator[Tensor]], statistics: bool = True) -> None:
    """Measure the latents of the first images: each channel's mean and deviation, and the prior, if there is one.

    They are samples of the posterior, from a generator of their own: their density is what the decoder was trained on.
    """
    vae: Any = averages["vae"]
    config, generator, latents = vae.config, torch.Generator().manual_seed(0), []
    numbers = config.latent_channels * (config.sample_size >> len(config.block_out_channels) - 1) ** 2
    for images in first(min(FITTED_IMAGES, max(1, FITTED_NUMBERS // numbers))):
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        latents.append(posterior.mean.cpu() + posterior.std.cpu() * noise)
    joined = torch.cat(latents)
    if statistics:
        vae.register_to_config(**latent_statistics(joined))
    if "prior" in averages:
        try:
            averages["prior"].fit(joined)
        except torch.linalg.LinAlgError:
            reach = f"{float(joined.abs().max()):.3g}"
            fault = f"prior: it can't be fitted to latents that reach {reach}"
            raise UserError(f"{fault}; train with a smaller --model.lr") from None


def latent_statistics(latents: Tensor) -> dict[str, Any]:
    """An `AutoencoderKL`'s config entries for latents (N, C, h, w), in the convention of diffusers' pipelines.

    Those that know `scaling_factor` only read latents as u / scaling_factor; the others as
    u * latents_std / scaling_factor + latents_mean. So scaling_factor is 1 / the deviation of all numbers, and
    latents_std each channel's deviation relative to it: u has unit scale either way.
    """
    latents = latents.double()
    deviation, mean = torch.std_mean(latents, (0, 2, 3), correction=0)
    scale = latents.std(correction=0)
    return {
        "scaling_factor": float(1 / scale),
        "latents_mean": mean.tolist(),
        "latents_std": (deviation / scale).tolist(),
    }
