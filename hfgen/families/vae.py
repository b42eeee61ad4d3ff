"""Variational autoencoder (Kingma and Welling, 1312.6114), published as a stock `AutoencoderKL`."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from hfgen.models.decoder import decoder_arguments
from hfgen.models.initialise import initialise
from hfgen.objectives.kl import kl_to_standard_normal
from hfgen.objectives.reconstruction import gaussian_nll
from hfgen.pipelines import VAEPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step
from hfgen.training.schedules import ramp


@dataclasses.dataclass(frozen=True)
class VAE:
    """Settings of a VAE.

    Args:
        latent_channels: Channels of the latent.
        latent_size: Side of the latent grid; 1 is a vector.
        width: Channels of the blocks at full resolution.
        max_width: Most channels of any block.
        layers_per_block: Residual layers of an encoder's block; a decoder's has one more.
        attention: Attend over the latent grid between encoder and decoder, as Stable Diffusion's autoencoder does.
        freeze_encoder: Train the decoder alone, so that the latents stay those of the model that the run starts from.
        variance: Of the Gaussian p(image | latent), per pixel, pixels in [-1, 1].
        kl_weight: Weight of the KL term; 1 is the evidence lower bound.
        kl_warmup: Share of the run over which that weight rises from 0, so that the latent is used.
        lr: Peak learning rate.
    """

    latent_channels: int = 16
    latent_size: int = 1
    width: int = 16
    max_width: int = 64
    layers_per_block: int = 1
    attention: bool = False
    freeze_encoder: bool = False
    variance: float = 0.02
    kl_weight: float = 1.0
    kl_warmup: float = 0.2
    lr: float = 1e-3

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """One network, `vae`."""
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
        return {"vae": vae}

    def phases(self) -> list[Phase]:
        """The negative evidence lower bound, as one phase."""
        return [Phase("vae", ("vae",), self._loss, self.lr, clip=1.0)]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        return self._bound(networks, step)[2]

    def _bound(self, networks: Networks, step: Step) -> tuple[Tensor, Tensor, Loss]:
        """The reconstructions (n, C, R, R), their nll per pixel, and the loss that it is a part of."""
        vae, images = networks["vae"], step.images
        posterior = vae.encode(images).latent_dist
        noise = step.draws.normal(tuple(posterior.mean.shape))
        means = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = kl_to_standard_normal(posterior.mean, posterior.logvar).mean()
        nll = self._nll(images, means).mean()
        pixels = images[0].numel()
        total = (nll + self.kl_weight * ramp(step.progress, 0.0, self.kl_warmup) * kl) / pixels
        mse = (means.detach() - images).square().mean()
        return means, nll / pixels, Loss(total, {"mse": mse, "kl": kl.detach(), "nll": nll.detach()})

    def _nll(self, images: Tensor, means: Tensor) -> Tensor:
        return gaussian_nll(images, means, self.variance)

    def pipeline(self, networks: Networks) -> VAEPipeline:
        """Decode N(0, I), or reconstruct."""
        return VAEPipeline(vae=networks["vae"])
