"""Generative adversarial network: the autoencoders' decoder, or a stronger generator, against a discriminator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from hfgen.errors import UserError
from hfgen.models.dcgan_discriminator import DCGANDiscriminator
from hfgen.models.decoder import check_widths, decoder_arguments
from hfgen.models.discriminator import ImageDiscriminator
from hfgen.models.hfgen_dcgan_v1 import DCGANGenerator
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.hfgen_r3gan_v1 import R3Generator
from hfgen.models.initialise import initialise
from hfgen.models.r3_discriminator import R3Discriminator
from hfgen.objectives.adversarial import ADVERSARIAL_LOSSES, discriminator_loss, discriminator_warning, lazy
from hfgen.objectives.augment import POLICIES, augment
from hfgen.pipelines import GANPipeline
from hfgen.setting_bounds import at_least, below_one, positive, share
from hfgen.training.phases import Family, Loss, Networks, Phase, Step
from hfgen.training.schedules import cosine


@dataclasses.dataclass(frozen=True)
class GAN(Family):
    """Settings of a GAN; by default relativistic, with R1 and R2 (R3GAN; Huang et al., 2501.05441).

    Args:
        network: shared (the autoencoders' decoder, for controlled comparisons), dcgan (many images a second) or r3
            (stronger and slower: nothing is normalised).
        loss: What the discriminator and, against it, the generator minimise.
        conditional: Draw images of the data's classes, and judge them as such.
        augment: What both see of reals and fakes: some of color,translation,cutout, for small data; empty: themselves.
        latent_channels: Channels of the latent.
        latent_size: Side of the latent grid; 1 is a vector. dcgan and r3 take as many numbers as a vector.
        width: Channels of the generator's blocks at full resolution; dcgan: at half.
        max_width: Most channels of any generator block.
        discriminator_width: Channels of the discriminator at half the resolution; r3: at full.
        discriminator_max_width: Most channels of any discriminator block.
        penalty: Gamma, the weight of R1 + R2, which are of images before their augmentation; 0 for none.
        penalty_end: Gamma at the end, as a fraction of `penalty`; between them a cosine.
        penalty_every: Steps between two penalties, each then counted as often.
        beta1: AdamW's momentum, of both.
        lr_generator: Peak learning rate of the generator.
        lr_discriminator: Peak learning rate of the discriminator.
        lr_end: Both at the end, as a fraction of the peak.
    """

    network: Literal["shared", "dcgan", "r3"] = "shared"
    loss: Literal["relativistic", "hinge", "nonsaturating"] = "relativistic"
    conditional: bool = False
    augment: str = ""
    latent_channels: int = 4
    latent_size: int = 2
    width: int = 16
    max_width: int = 64
    discriminator_width: int = 64
    discriminator_max_width: int = 256
    penalty: float = 1.0
    penalty_end: float = 1.0
    penalty_every: int = 8
    beta1: float = 0.0
    lr_generator: float = 4e-4
    lr_discriminator: float = 4e-4
    lr_end: float = 0.1

    def __post_init__(self) -> None:
        """Refuse augmentations that there aren't, and penalties that never come."""
        for name in self._policies:
            if name not in POLICIES:
                raise UserError(f"model.augment: {name} is unknown; choose some of {','.join(POLICIES)}")
        share(self, "lr_end")
        at_least(0, self, "penalty", "penalty_end")
        below_one(self, "beta1", "give 0 or, of DCGAN, 0.5")
        widths = "discriminator_width", "discriminator_max_width"
        at_least(1, self, "latent_channels", "latent_size", "penalty_every", *widths)
        positive(self, "lr_generator", "lr_discriminator")
        if self.network == "dcgan" and self.penalty:
            raise UserError(
                f"model.penalty: {self.penalty} is of each image alone, and network dcgan judges batches; set it to 0"
            )

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Two networks, `gan` (the generator) and `discriminator`."""
        if self.conditional and not classes:
            raise UserError(
                "model.conditional: the data has no labels, or not for every image; "
                "choose labelled data, or set model.conditional to false"
            )
        make = {"shared": self._shared, "dcgan": self._dcgan, "r3": self._r3}[self.network]
        generator, discriminator = make(resolution, channels, classes if self.conditional else 0)
        return {"gan": generator, "discriminator": discriminator}

    def _shared(self, resolution: int, channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
        arguments = decoder_arguments(
            resolution, channels, self.latent_channels, self.latent_size, self.width, self.max_width
        )
        generator = GANGenerator(
            **{key: value for key, value in arguments.items() if key not in ("in_channels", "down_block_types")},
            num_classes=classes,
        )
        initialise(generator)
        return generator, ImageDiscriminator(
            channels, resolution, self.discriminator_width, self.discriminator_max_width, classes
        )

    def _dcgan(self, resolution: int, channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
        # From half the resolution on.
        widths, judging = (found[:-1] for found in self._widths_to_side(4, resolution))
        generator = DCGANGenerator(channels, widths, self._numbers, sample_size=resolution, num_classes=classes)
        return generator, DCGANDiscriminator(channels, resolution, judging, classes)

    def _r3(self, resolution: int, channels: int, classes: int) -> tuple[nn.Module, nn.Module]:
        side = 4
        widths, judging = self._widths_to_side(side, resolution)
        generator = R3Generator(
            channels, widths, latent_channels=self._numbers, sample_size=resolution, num_classes=classes
        )
        return generator, R3Discriminator(channels, judging, side, classes=classes)

    @property
    def _numbers(self) -> int:
        return self.latent_channels * self.latent_size**2

    def _widths_to_side(self, side: int, resolution: int) -> tuple[list[int], list[int]]:
        """The generator's and the discriminator's widths at each size from the resolution down to `side`."""
        sides = [side * 2**count for count in range(1, 11)]
        if resolution not in sides:
            raise UserError(
                f"resolution: {resolution} can't be reached from side {side} by doubling, as network {self.network} "
                f"does; choose one of {', '.join(map(str, sides[1:7]))}, or model.network shared"
            )
        pairs = ("width", "max_width"), ("discriminator_width", "discriminator_max_width")
        check_widths(**{name: getattr(self, name) for pair in pairs for name in pair})
        count = sides.index(resolution) + 2
        first, second = (
            [min(getattr(self, narrow) * 2**step, getattr(self, wide)) for step in range(count)]
            for narrow, wide in pairs
        )
        return first, second

    def phases(self) -> list[Phase]:
        """The generator's update, then the discriminator's on the same fakes."""
        betas = (self.beta1, 0.99)
        return [
            Phase("generator", ("gan",), self._generator_loss, self.lr_generator, betas, lr_end=self.lr_end),
            Phase(
                "discriminator",
                ("discriminator",),
                self._discriminator_loss,
                self.lr_discriminator,
                betas,
                lr_end=self.lr_end,
                watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
                unsharded=True,
            ),
        ]

    def _generator_loss(self, networks: Networks, step: Step) -> Loss:
        judge, loss = self._judge(networks, step), ADVERSARIAL_LOSSES[self.loss]
        # Fakes are of the real images' classes: relativistic pairs share theirs.
        classes = (step.labels,) if self.conditional else ()
        latents = step.draws.normal((len(step.images), *networks["gan"].latent_shape))
        fakes = networks["gan"](latents, *classes).float()
        step.carry["fakes"] = fakes.detach()
        fake = judge(self._augment(fakes, step))
        real = judge(self._augment(step.images, step)).detach() if loss.paired else fake.detach()
        total = loss.generator(real, fake)
        return Loss(total, {"loss": total.detach()})

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        judge, real, fakes = self._judge(networks, step), step.images, step.carry["fakes"]
        scores = judge(self._augment(real, step)), judge(self._augment(fakes, step))
        gamma = lazy(self.penalty, self.penalty_every, step.index) * cosine(step.progress, self.penalty_end)
        return Loss(*discriminator_loss(ADVERSARIAL_LOSSES[self.loss], scores, gamma, judge, ((real,), (fakes,))))

    def _judge(self, networks: Networks, step: Step) -> Callable[[Tensor], Tensor]:
        discriminator = networks["discriminator"]
        if self.network != "r3":
            discriminator = partial(discriminator, join=step.join)
        return partial(discriminator, class_labels=step.labels) if self.conditional else discriminator

    def _augment(self, images: Tensor, step: Step) -> Tensor:
        return augment(images, self._policies, step.draws.uniform)

    @property
    def _policies(self) -> list[str]:
        return [name for name in self.augment.split(",") if name]

    def pipeline(self, networks: Networks) -> GANPipeline:
        """Generate from N(0, I)."""
        return GANPipeline(gan=networks["gan"])
