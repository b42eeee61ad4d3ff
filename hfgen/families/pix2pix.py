"""pix2pix (Isola et al., 1611.07004): a U-Net translates conditions, held to its targets by L1 and a PatchGAN."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from hfgen.errors import UserError
from hfgen.models.hfgen_translator_v1 import Translator
from hfgen.models.patch_discriminator import PatchDiscriminator, receptive_field
from hfgen.objectives.adversarial import discriminator_warning, nonsaturating_loss
from hfgen.pipelines import TranslationPipeline
from hfgen.setting_bounds import at_least, below_one, positive
from hfgen.training.phases import Family, Loss, Networks, Phase, Step

_HALVINGS = {receptive_field(layers): layers for layers in (0, 1, 2, 3, 5)}


@dataclasses.dataclass(frozen=True)
class Pix2Pix(Family):
    """Settings of pix2pix.

    Args:
        condition: What is translated: edges, made from each image as it is seen, or the name of a column of images.
        condition_channels: 1 (grey) or 3 (RGB), of a column; edges have 1.
        objective: The terms of section 4.2; with cgan the discriminator sees the condition too, with gan it doesn't.
        l1_weight: Lambda, the weight of the mean absolute error.
        patch: Side of the patch that the discriminator judges, in pixels.
        dropout: Share of the inner outputs that noise drops while training; 0: no noise.
        width: Channels of the translator at half the resolution.
        max_width: Most channels of any of its levels.
        discriminator_width: Channels of the discriminator at half the resolution.
        discriminator_max_width: Most channels of any discriminator layer.
        lr: Peak learning rate of the translator.
        lr_discriminator: Peak learning rate of the discriminator.
    """

    condition: str = "edges"
    condition_channels: Literal[1, 3] = 3
    objective: Literal["l1", "gan", "cgan", "l1+gan", "l1+cgan"] = "l1+cgan"
    l1_weight: float = 100.0
    patch: Literal[1, 16, 34, 70, 286] = 34
    dropout: float = 0.0
    width: int = 32
    max_width: int = 256
    discriminator_width: int = 32
    discriminator_max_width: int = 128
    lr: float = 5e-4
    lr_discriminator: float = 5e-4

    def __post_init__(self) -> None:
        """Refuse what nothing can be built from."""
        if not self.condition:
            raise UserError("model.condition: empty; give `edges` or the name of a column of images")
        below_one(self, "dropout", "choose a share of the outputs")
        at_least(0, self, "l1_weight")
        at_least(1, self, "discriminator_width", "discriminator_max_width")
        positive(self, "lr", "lr_discriminator")
        for name in ("width", "max_width"):
            if getattr(self, name) < 8 or getattr(self, name) % 8:
                raise UserError(
                    f"model.{name}: {getattr(self, name)} isn't a positive multiple of 8; choose 16, 32, ..."
                )

    @property
    def paired_with(self) -> tuple[str, int] | None:
        """The column that the data must bring, and its channels; None where edges are made."""
        return None if self.condition == "edges" else (self.condition, self.condition_channels)

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """`translator` and, unless the objective is l1, `discriminator`."""
        if resolution < 16 or resolution & (resolution - 1):
            raise UserError(f"resolution: {resolution} isn't a power of two of 16 or more; choose 16, 32, 64, 128, 256")
        conditions = self.paired_with[1] if self.paired_with else 1
        translator = Translator(
            self.condition, conditions, channels, resolution, self.width, self.max_width, self.dropout
        )
        if self.objective == "l1":
            return {"translator": translator}
        fitting = [patch for patch, halvings in _HALVINGS.items() if resolution >> halvings]
        if self.patch not in fitting:
            raise UserError(
                f"model.patch: {self.patch} takes {_HALVINGS[self.patch]} halvings, too many for {resolution} pixels; "
                f"choose {', '.join(map(str, fitting))}"
            )
        seen = channels + (conditions if self._conditional else 0)
        discriminator = PatchDiscriminator(
            seen, self.discriminator_width, self.discriminator_max_width, _HALVINGS[self.patch]
        )
        return {"translator": translator, "discriminator": discriminator}

    def phases(self) -> list[Phase]:
        """The translator's update, then the discriminator's on the same translations."""
        betas = (0.5, 0.999)
        translator = Phase("translator", ("translator",), self._loss, self.lr, betas)
        if self.objective == "l1":
            return [translator]
        discriminator = Phase(
            "discriminator",
            ("discriminator",),
            self._discriminator_loss,
            self.lr_discriminator,
            betas,
            watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
        )
        return [translator, discriminator]

    @property
    def _conditional(self) -> bool:
        return self.objective.endswith("cgan")

    def _loss(self, networks: Networks, step: Step) -> Loss:
        translator = networks["translator"]
        targets, conditions = translator.pair(step.images)
        noise = step.draws.uniform((len(targets), *translator.noise_shape)) if self.dropout else None
        fakes = translator(conditions, noise)
        error = (fakes - targets).abs().mean()
        terms = {"l1": error.detach()}
        total = self.l1_weight * error if self.objective.startswith("l1") else torch.zeros_like(error)
        if "discriminator" in networks:
            step.carry["fakes"] = fakes.detach()
            adversarial = softplus(-self._scores(networks, fakes, conditions)).mean()
            total, terms["adversarial"] = total + adversarial, adversarial.detach()
        return Loss(total, terms)

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        targets, conditions = networks["translator"].pair(step.images)
        real, fake = (self._scores(networks, images, conditions) for images in (targets, step.carry["fakes"]))
        loss = 0.5 * nonsaturating_loss(real, fake)  # section 3.3
        return Loss(loss, {"loss": loss.detach(), "margin": (real - fake).mean().detach()})

    def _scores(self, networks: Networks, images: Tensor, conditions: Tensor) -> Tensor:
        seen = torch.cat([images, conditions], 1) if self._conditional else images
        return networks["discriminator"](seen).float()

    def pipeline(self, networks: Networks) -> TranslationPipeline:
        """Translate."""
        return TranslationPipeline(translator=networks["translator"])
