"""Adversarially learned inference (Dumoulin et al., 1606.00704), published as a stock `AutoencoderKL`."""

from __future__ import annotations

import dataclasses
from functools import partial

from torch import nn

from hfgen.families.vae import VAE
from hfgen.models.joint_discriminator import JointDiscriminator
from hfgen.objectives.adversarial import (
    ADVERSARIAL_LOSSES,
    discriminator_loss,
    discriminator_warning,
    lazy,
    relativistic_loss,
)
from hfgen.pipelines import ALIPipeline
from hfgen.setting_bounds import at_least, positive
from hfgen.training.phases import Family, Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class ALI(Family):
    """Settings of ALI: encoder q(z | x) and generator p(x | z) make pairs (x, z) that a discriminator tells apart.

    Args:
        latent_channels: Channels of the latent.
        latent_size: Side of the latent grid; 1 is a vector.
        width: Channels of the blocks at full resolution.
        max_width: Most channels of any block.
        discriminator_width: Channels of the discriminator at half the resolution.
        discriminator_max_width: Most channels of any discriminator block.
        penalty: Gamma, the weight of R1 + R2, with respect to images and latents.
        penalty_every: Steps between two penalties, each then counted as often.
        lr: Peak learning rate of encoder and generator.
        lr_discriminator: Peak learning rate of the discriminator.
    """

    latent_channels: int = 4
    latent_size: int = 2
    width: int = 16
    max_width: int = 64
    discriminator_width: int = 64
    discriminator_max_width: int = 256
    penalty: float = 1.0
    penalty_every: int = 4
    lr: float = 3e-4
    lr_discriminator: float = 3e-4

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        at_least(0, self, "penalty")
        widths = "discriminator_width", "discriminator_max_width"
        at_least(1, self, "latent_channels", "latent_size", "penalty_every", *widths)
        positive(self, "lr", "lr_discriminator")

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Two networks, `vae` (encoder and generator) and `discriminator`."""
        vae = VAE(self.latent_channels, self.latent_size, self.width, self.max_width).build(resolution, channels)["vae"]
        widths = self.discriminator_width, self.discriminator_max_width
        latent = self.latent_channels * self.latent_size**2
        return {"vae": vae, "discriminator": JointDiscriminator(channels, resolution, *widths, latent)}

    def phases(self) -> list[Phase]:
        """The update of encoder and generator, then the discriminator's on the same pairs."""
        betas = (0.5, 0.99)
        return [
            Phase("ali", ("vae",), self._loss, self.lr, betas),
            Phase(
                "discriminator",
                ("discriminator",),
                self._discriminator_loss,
                self.lr_discriminator,
                betas,
                watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
                unsharded=True,
            ),
        ]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        """Both sides make their pairs look like the other's (equation 3, with the relativistic loss)."""
        vae, discriminator = networks["vae"], partial(networks["discriminator"], join=step.join)
        posterior = vae.encode(step.images).latent_dist
        inferred = (posterior.mean + posterior.std * step.draws.normal(tuple(posterior.mean.shape))).float()
        latents = step.draws.normal(tuple(inferred.shape))
        generated = vae.decode(latents).sample.float()
        step.carry.update(inferred=inferred.detach(), latents=latents, generated=generated.detach())
        total = relativistic_loss(discriminator(generated, latents), discriminator(step.images, inferred))
        return Loss(total, {"loss": total.detach()})

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        discriminator = partial(networks["discriminator"], join=step.join)
        encoder, generator = (step.images, step.carry["inferred"]), (step.carry["generated"], step.carry["latents"])
        scores = discriminator(*encoder), discriminator(*generator)
        gamma = lazy(self.penalty, self.penalty_every, step.index)
        return Loss(
            *discriminator_loss(ADVERSARIAL_LOSSES["relativistic"], scores, gamma, discriminator, (encoder, generator))
        )

    def pipeline(self, networks: Networks) -> ALIPipeline:
        """Decode N(0, I), or reconstruct through inference."""
        return ALIPipeline(vae=networks["vae"])
