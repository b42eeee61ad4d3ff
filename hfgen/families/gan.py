"""Generative adversarial network whose generator is the autoencoders' decoder."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from hfgen.models.decoder import decoder_arguments
from hfgen.models.discriminator import ImageDiscriminator
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.initialise import initialise
from hfgen.objectives.adversarial import discriminator_warning, gradient_penalty, relativistic_loss
from hfgen.pipelines import GANPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class GAN:
    """Settings of a GAN: relativistic loss with R1 and R2 (R3GAN; Huang et al., 2501.05441).

    Args:
        latent_channels: Channels of the latent.
        latent_size: Side of the latent grid; 1 is a vector.
        width: Channels of the generator's blocks at full resolution.
        max_width: Most channels of any generator block.
        discriminator_width: Channels of the discriminator at half the resolution.
        discriminator_max_width: Most channels of any discriminator block.
        penalty: Gamma, the weight of R1 + R2.
        penalty_every: Steps between two penalties, each then counted as often.
        lr_generator: Peak learning rate of the generator.
        lr_discriminator: Peak learning rate of the discriminator.
    """

    latent_channels: int = 16
    latent_size: int = 1
    width: int = 16
    max_width: int = 64
    discriminator_width: int = 32
    discriminator_max_width: int = 128
    penalty: float = 0.5
    penalty_every: int = 4
    lr_generator: float = 7e-4
    lr_discriminator: float = 7e-4

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Two networks, `gan` (the generator) and `discriminator`."""
        arguments = decoder_arguments(
            resolution, channels, self.latent_channels, self.latent_size, self.width, self.max_width
        )
        generator = GANGenerator(
            **{key: value for key, value in arguments.items() if key not in ("in_channels", "down_block_types")}
        )
        initialise(generator)
        discriminator = ImageDiscriminator(channels, resolution, self.discriminator_width, self.discriminator_max_width)
        return {"gan": generator, "discriminator": discriminator}

    def phases(self) -> list[Phase]:
        """The generator's update, then the discriminator's on the same fakes."""
        return [
            Phase("generator", ("gan",), self._generator_loss, self.lr_generator, betas=(0.0, 0.99)),
            Phase(
                "discriminator",
                ("discriminator",),
                self._discriminator_loss,
                self.lr_discriminator,
                (0.0, 0.99),
                watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
                whole=True,
            ),
        ]

    def _latents(self, step: Step) -> Tensor:
        return step.draws.normal((len(step.images), self.latent_channels, self.latent_size, self.latent_size))

    def _generator_loss(self, networks: Networks, step: Step) -> Loss:
        discriminator = networks["discriminator"]
        fakes = networks["gan"](self._latents(step)).float()
        step.carry["fakes"] = fakes.detach()
        total = relativistic_loss(discriminator(fakes), discriminator(step.images).detach())
        return Loss(total, {"loss": total.detach()})

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        discriminator, real, fakes = networks["discriminator"], step.images, step.carry["fakes"]
        score_real, score_fake = discriminator(real), discriminator(fakes)
        adversarial = relativistic_loss(score_real, score_fake)
        terms = {"loss": adversarial.detach(), "margin": (score_real - score_fake).mean().detach().float()}
        if step.index % self.penalty_every:
            return Loss(adversarial, terms)
        r1, r2 = gradient_penalty(discriminator, real), gradient_penalty(discriminator, fakes)
        terms.update(r1=r1.detach(), r2=r2.detach())
        return Loss(adversarial + self.penalty_every * self.penalty / 2 * (r1 + r2), terms)

    def pipeline(self, networks: Networks) -> GANPipeline:
        """Generate from N(0, I)."""
        return GANPipeline(gan=networks["gan"])
