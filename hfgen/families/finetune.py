"""Fine-tuning of any autoencoder of diffusers: its own network learns on, against an adversary or without one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hfgen.autoencoders import Autoencoder
from hfgen.errors import ModelError, SettingsError
from hfgen.families.adversary import Adversary
from hfgen.objectives.kl import kl_per_channel
from hfgen.pipelines import AutoencoderPipeline
from hfgen.pipelines.autoencoder import codec_of
from hfgen.setting_bounds import at_least, positive
from hfgen.training.phases import Family, Loss, Networks, Phase, Step

if TYPE_CHECKING:
    from hfgen.pipelines import ImagePipeline


@dataclasses.dataclass(frozen=True)
class FineTune(Family, Adversary):
    """Settings of fine-tuning. The network, its class and its config are those of the model that the run starts from.

    Args:
        freeze_encoder: Train the decoder alone: latents and codes stay those of the model, to the bit.
        pixel_loss: Mean over the pixels in [-1, 1] of the squared (l2) or absolute (l1) error.
        kl_weight: Of the posterior's KL from N(0, I), an image's sum over its pixels, where there is a posterior.
        quantiser_weight: Of the loss of the network's own quantiser, where it has one.
        lr: Peak learning rate.
    """

    freeze_encoder: bool = False
    pixel_loss: Literal["l2", "l1"] = "l2"
    kl_weight: float = 1e-6
    quantiser_weight: float = 1.0
    lr: float = 2e-5

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        at_least(0, self, "kl_weight", "quantiser_weight")
        positive(self, "lr")
        self._check_adversary()

    @property
    def needs_start(self) -> str | None:
        """It has no network of its own."""
        return "start_from: none is given, and fine-tuning needs a model; give start_from MODEL, such as org/name/vae"

    @property
    def trains_its_start(self) -> bool:
        """See `Family`."""
        return True

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """The adversary's networks: the autoencoder is the start's."""
        return self._adversary_networks(resolution, channels)

    def build_from(self, pipeline: ImagePipeline, resolution: int, channels: int) -> dict[str, nn.Module]:
        """`autoencoder`, the network of a published model, and the adversary's.

        What no gradient reaches is frozen, as is the encoder where that is asked for.

        Raises:
            ModelError: the model has no autoencoder that can be trained.
            SettingsError: it takes other images than the run's.
        """
        codec = codec_of(pipeline)
        if codec is None:
            raise ModelError(f"start_from: a {pipeline.family} holds no autoencoder; give start_from org/name/vae")
        _check_images(codec, resolution, channels)
        name = type(codec.network).__name__
        if codec.traits.draws:
            raise ModelError(f"start_from: the decoder of {name} draws noise, and can't be fine-tuned on pixels")
        images = torch.zeros(1, channels, resolution, resolution)
        with torch.no_grad():
            latents = codec.encode(images).mean
        trained = codec.decoder_parameters(latents)
        if not self.freeze_encoder:
            trained = codec.parameters_behind(lambda: self._terms(codec, images, torch.ones_like(latents))[0])
        if not trained:
            raise ModelError(f"start_from: no gradient reaches the weights of {name}; it can't be fine-tuned")
        for key, parameter in codec.named_parameters():
            parameter.requires_grad_(key in trained)
        codec.last_weight(latents)  # Looked for now, before the network is compiled or sharded.
        return {"autoencoder": codec.network, **self.build(resolution, channels)}

    def phases(self) -> list[Phase]:
        """The autoencoder's update, then the discriminator's on the same reconstructions."""
        return [Phase("autoencoder", ("autoencoder",), self._loss, self.lr, clip=1.0), self._discriminator_phase()]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        codec = Autoencoder(networks["autoencoder"])
        side = step.images.shape[-1] // codec.factor
        noise = step.draws.normal((len(step.images), codec.latent_channels, side, side))
        total, images, error, terms = self._terms(codec, step.images, noise)
        return self._with_adversary(networks, step, images, error, Loss(total, terms))

    def _last_weight(self, networks: Networks) -> Tensor:
        return Autoencoder(networks["autoencoder"]).last_weight()

    def _terms(self, codec: Autoencoder, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Any]:
        """The loss without the adversary, the reconstructions, their error per pixel, and the terms for the log."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            encoded = codec.encode(images)
            latents = encoded.sample(noise)
        decoded, quantiser_loss = codec.decode_with_loss(latents)
        difference = decoded - images
        error = difference.square().mean() if self.pixel_loss == "l2" else difference.abs().mean()
        total, terms = error, {"mse": difference.detach().square().mean()}
        if encoded.log_variance is not None:
            kl = kl_per_channel(encoded.mean, encoded.log_variance).sum(1).mean()
            total = total + self.kl_weight * kl / images[0].numel()
            terms["kl"] = kl.detach()
        if quantiser_loss is not None:
            loss = quantiser_loss.mean()
            total = total + self.quantiser_weight * loss
            terms["quantiser"] = loss.detach()
        return total, decoded, error, terms

    def pipeline(self, networks: Networks) -> AutoencoderPipeline:
        """The stock network, with the config that it came with."""
        return AutoencoderPipeline(autoencoder=networks["autoencoder"])


def _check_images(codec: Autoencoder, resolution: int, channels: int) -> None:
    if channels != codec.channels:
        raise SettingsError(
            f"channels: {channels}, but the model takes {codec.channels}; set channels {codec.channels}"
        )
    side = codec.traits.side
    if side is not None and side != resolution:
        raise SettingsError(f"resolution: {resolution}, but the model takes {side} pixels only; set resolution {side}")
    if resolution % codec.factor:
        near = max(1, round(resolution / codec.factor)) * codec.factor
        raise SettingsError(f"resolution: {resolution} pixels; the model takes multiples of {codec.factor}: set {near}")
