"""What makes an autoencoder a VAE-GAN or a VQGAN: a PatchGAN on its reconstructions, and a perceptual term."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch._functorch.config
from torch import Tensor, nn

from hfgen.data import ImageStore
from hfgen.errors import UserError
from hfgen.models.classifier import class_numbers, train_classifier
from hfgen.models.feature_networks import BackboneFeatures, EmbeddedFeatures
from hfgen.models.patch_discriminator import PatchDiscriminator
from hfgen.objectives.adversarial import (
    ADVERSARIAL_LOSSES,
    ScoreAverages,
    adaptive_weight,
    discriminator_loss,
    discriminator_warning,
    lazy,
    lecam_penalty,
)
from hfgen.objectives.perceptual import feature_distance
from hfgen.pipelines.places import resolve_network
from hfgen.setting_bounds import at_least, below_one, positive, share
from hfgen.training.phases import Loss, Networks, Phase, Step
from hfgen.training.schedules import ramp


@dataclasses.dataclass(frozen=True)
class Adversary:
    """Settings of the two terms, and what a family needs of them: checks, networks, the loss and a phase.

    Args:
        adversarial_loss: hinge, nonsaturating, or relativistic (each image's scores against its reconstruction's).
        adversarial_weight: Weight of the adversarial term.
        adversarial_begin: Share of the run after which the discriminator learns and its term is added.
        adversarial_warmup: Share of the run over which the weight then rises from 0.
        adaptive: Multiply the weight by |grad nll| / |grad adversarial| at the decoder's last layer.
        penalty: Gamma, the weight of R1 + R2, of an image's mean score, in the discriminator's loss; 0 for none.
        penalty_every: Steps between two penalties, each then counted as often.
        lecam_weight: Weight of LeCam's penalty in the discriminator's loss, which helps where images are few.
        lecam_decay: Of the moving averages of the scores, per step, that it is anchored at.
        discriminator_layers: Halvings of the side; a score sees 16, 34, 70, 142 pixels with 1, 2, 3, 4.
        discriminator_width: Channels of the discriminator at half the resolution.
        discriminator_max_width: Most channels of any discriminator layer.
        lr_discriminator: Peak learning rate of the discriminator.
        perceptual: Network of the perceptual distance: none, embedded (a classifier trained on the run's images
            before its first step), or MODEL, an image network of transformers.
        perceptual_weight: Weight of that distance, beside the reconstruction's loss per pixel.
    """

    adversarial_loss: Literal["hinge", "relativistic", "nonsaturating"] = "hinge"
    adversarial_weight: float = 0.5
    adversarial_begin: float = 0.3
    adversarial_warmup: float = 0.1
    adaptive: bool = True
    penalty: float = 0.0
    penalty_every: int = 8
    lecam_weight: float = 0.0
    lecam_decay: float = 0.99
    discriminator_layers: int = 2
    discriminator_width: int = 32
    discriminator_max_width: int = 128
    lr_discriminator: float = 5e-4
    perceptual: str = "none"
    perceptual_weight: float = 1.0

    def _check_adversary(self, end: float = 1.0) -> None:
        """Refuse what never starts before `end`, a share of the run, or can't work."""
        if not 0 <= self.adversarial_begin < end:
            raise UserError(
                f"model.adversarial_begin: {self.adversarial_begin} isn't in [0, {end:g}); choose a share of the run"
            )
        below_one(self, "lecam_decay", "choose e.g. 0.99")
        share(self, "adversarial_warmup")
        at_least(0, self, "adversarial_weight", "penalty", "lecam_weight", "perceptual_weight")
        at_least(1, self, "penalty_every", "discriminator_width", "discriminator_max_width")
        positive(self, "lr_discriminator")

    def _last_weight(self, networks: Networks) -> Tensor:
        """The decoder's last weight."""
        raise NotImplementedError

    def _adversary_networks(self, resolution: int, channels: int) -> dict[str, nn.Module]:
        """`discriminator`; `scores` with LeCam's penalty; `perceptual` with that distance, frozen."""
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
        networks: dict[str, nn.Module] = {"discriminator": discriminator}
        if self.lecam_weight:
            networks["scores"] = ScoreAverages()
        if self.perceptual == "embedded":
            networks["perceptual"] = EmbeddedFeatures(channels, resolution)
        elif self.perceptual != "none" and torch.get_default_device().type != "meta":
            # A dry run fetches nothing.
            networks["perceptual"] = _backbone(self.perceptual)
        return networks

    def _discriminator_phase(self, end: float = 1.0) -> Phase:
        """The discriminator's update on the reconstructions that the autoencoder's left, until `end` of the run."""
        return Phase(
            "discriminator",
            ("discriminator",),
            self._discriminator_loss,
            self.lr_discriminator,
            betas=(0.5, 0.9),
            begin=self.adversarial_begin,
            end=end,
            after=self._move_scores if self.lecam_weight else None,
            watch=lambda means: discriminator_warning(means["loss"], means["margin"]),
            start=_learn_features if self.perceptual == "embedded" else None,
            early=(lambda networks: [self._last_weight(networks)]) if self.adaptive else None,
            unsharded=True,
        )

    def _with_adversary(self, networks: Networks, step: Step, fakes: Tensor, nll: Tensor, loss: Loss) -> Loss:
        """The autoencoder's loss with the perceptual and the adversarial term.

        Args:
            networks: Those of the run.
            step: Its images are the real ones; the fakes are left there for the discriminator.
            fakes: Reconstructions (n, C, R, R).
            nll: The part of the loss that compares them with the images, per pixel.
            loss: The loss without the two terms.
        """
        step.carry["reconstructions"] = fakes.detach()
        total, terms = loss.total, dict(loss.terms)
        if self.perceptual != "none":
            with torch.no_grad():
                wanted = networks["perceptual"](step.images)
            distance = feature_distance(networks["perceptual"](fakes), wanted).mean()
            nll, total = nll + self.perceptual_weight * distance, total + self.perceptual_weight * distance
            terms["feature_distance"] = distance.detach()
        weight = self.adversarial_weight * ramp(step.progress, self.adversarial_begin, self.adversarial_warmup)
        if weight == 0:
            return Loss(total, terms)
        adversarial = self._generator_term(networks["discriminator"], step.images, fakes)
        factor = torch.tensor(weight, device=fakes.device)
        if self.adaptive:
            factor = weight * adaptive_weight(nll, adversarial, self._last_weight(networks), step.gather)
        terms.update(adversarial=adversarial.detach(), adversarial_weight=factor)
        return Loss(total + factor * adversarial, terms)

    def _generator_term(self, discriminator: nn.Module, real: Tensor, fakes: Tensor) -> Tensor:
        loss = ADVERSARIAL_LOSSES[self.adversarial_loss]
        with torch.no_grad():
            score_real = discriminator(real) if loss.paired else real
        return loss.generator(score_real, discriminator(fakes))

    def _discriminator_loss(self, networks: Networks, step: Step) -> Loss:
        discriminator = networks["discriminator"]
        real, fake = discriminator(step.images), discriminator(step.carry["reconstructions"])
        gamma = lazy(self.penalty, self.penalty_every, step.index)
        loss, terms = discriminator_loss(
            ADVERSARIAL_LOSSES[self.adversarial_loss],
            (real, fake),
            gamma,
            lambda images: discriminator(images).mean((1, 2, 3)),
            ((step.images,), (step.carry["reconstructions"],)),
        )
        if not self.lecam_weight:
            return Loss(loss, terms)
        step.carry.update(real_scores=real.detach(), fake_scores=fake.detach())
        penalty = lecam_penalty(real, fake, networks["scores"])
        return Loss(loss + self.lecam_weight * penalty, {**terms, "lecam": penalty.detach()})

    def _move_scores(self, networks: Networks, step: Step) -> None:
        real, fake = (step.gather(step.carry[name].float()) for name in ("real_scores", "fake_scores"))
        networks["scores"].update(real, fake, self.lecam_decay)


def _backbone(model: str) -> BackboneFeatures:
    """The image network that MODEL is.

    Raises:
        UserError: it can't be fetched, or isn't one.
    """
    try:
        return BackboneFeatures(resolve_network(model))
    except UserError as error:
        reason = str(error).removeprefix("model: ")
        raise UserError(
            f"model.perceptual: {reason}; give an image network of transformers, embedded or none"
        ) from None


def _learn_features(networks: Networks, store: ImageStore) -> None:
    classes = class_numbers(store.labels)
    trained = train_classifier(store.images.cpu(), classes, "perceptual")
    networks["perceptual"].classifier.load_state_dict(trained.network.state_dict())
