"""VAE-GAN: a VAE whose reconstructions a PatchGAN judges too, as in latent diffusion (Rombach et al., 2112.10752)."""

from __future__ import annotations

import dataclasses

import torch
import torch._functorch.config
from torch import nn

from hfgen.errors import UserError
from hfgen.families.vae import VAE
from hfgen.models.patch_discriminator import PatchDiscriminator
from hfgen.objectives.adversarial import adaptive_weight, discriminator_warning, hinge_loss
from hfgen.pipelines import VAEGANPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step
from hfgen.training.schedules import ramp


@dataclasses.dataclass(frozen=True)
class VAEGAN(VAE):
    """Settings of a VAE-GAN: the VAE's, and those of its adversary.

    Args:
        adversarial_weight: Weight of the adversarial term.
        adversarial_begin: Share of the run after which the discriminator learns and is listened to.
        adversarial_warmup: Share of the run over which the weight then rises from 0.
        adaptive: Multiply the weight by |grad nll| / |grad adversarial| at the decoder's last layer.
        discriminator_layers: Halvings of the side; a score sees 16, 34, 70, 142 pixels with 1, 2, 3, 4.
        discriminator_width: Channels of the discriminator at half the resolution.
        discriminator_max_width: Most channels of any discriminator layer.
        lr_discriminator: Peak learning rate of the discriminator.
    """

    adversarial_weight: float = 0.5
    adversarial_begin: float = 0.3
    adversarial_warmup: float = 0.1
    adaptive: bool = True
    discriminator_layers: int = 2
    discriminator_width: int = 32
    discriminator_max_width: int = 128
    lr_discriminator: float = 5e-4

    def __post_init__(self) -> None:
        """Refuse what never starts or never ends."""
        super().__post_init__()
        if not 0 <= self.adversarial_begin < 1:
            raise UserError(
                f"model.adversarial_begin: {self.adversarial_begin} isn't in [0, 1); choose a share of the run"
            )
        if self.adversarial_warmup < 0:
            raise UserError(f"model.adversarial_warmup: {self.adversarial_warmup} is negative; give 0 or more")

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """The VAE's networks, and `discriminator`."""
        most = resolution.bit_length() - 1
        if not 1 <= self.discriminator_layers <= most:
            raise UserError(
                f"model.discriminator_layers: {self.discriminator_layers} can't halve {resolution} pixels; "
                f"choose 1 to {most}"
            )
        if self.adaptive:
            # Else a compiled network allows no gradient ahead of the update's.
            torch._functorch.config.donated_buffer = False
        discriminator = PatchDiscriminator(
            channels, self.discriminator_width, self.discriminator_max_width, self.discriminator_layers
        )
        return {**super().build(resolution, channels, classes), "discriminator": discriminator}

    def phases(self) -> list[Phase]:
        """The autoencoder's update, then the discriminator's on the same reconstructions."""
        return [
            *super().phases(),
            Phase(
                "discriminator",
                ("discriminator",),
                self._discriminator_loss,
                self.lr_discriminator,
                betas=(0.5, 0.9),
                begin=self.adversarial_begin,
                watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
                whole=True,
            ),
        ]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        means, nll, loss = self._bound(networks, step)
        step.carry["reconstructions"] = means.detach()
        weight = self.adversarial_weight * ramp(step.progress, self.adversarial_begin, self.adversarial_warmup)
        if weight == 0:
            return loss
        adversarial = -networks["discriminator"](means).float().mean()
        factor = torch.tensor(weight, device=means.device)
        if self.adaptive:
            factor = weight * adaptive_weight(nll, adversarial, networks["vae"].decoder.conv_out.weight, step.gather)
        terms = {**loss.terms, "adversarial": adversarial.detach(), "adversarial_weight": factor}
        return Loss(loss.total + factor * adversarial, terms)

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        discriminator = networks["discriminator"]
        real, fake = discriminator(step.images), discriminator(step.carry["reconstructions"])
        loss = hinge_loss(real, fake)
        return Loss(loss, {"loss": loss.detach(), "margin": (real.float() - fake.float()).mean().detach()})

    def pipeline(self, networks: Networks) -> VAEGANPipeline:
        """Decode the prior, or reconstruct."""
        return VAEGANPipeline(vae=networks["vae"], prior=networks.get("prior"))
