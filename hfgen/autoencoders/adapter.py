"""Any autoencoder of diffusers as one interface: images (N, C, H, W) in [-1, 1] -> latents (N, c, h, w) -> images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hfgen.autoencoders import network_calls
from hfgen.autoencoders.network_calls import Decoded, Encoded
from hfgen.autoencoders.probing import Traits, find_traits
from hfgen.autoencoders.statistics import Statistics, read_statistics

_TRAITS, _LAST = "_hfgen_traits", "_hfgen_last_weight"

NOISE_SEED = 0
"""Of what a decoder draws, for every image alike."""


class Autoencoder(nn.Module):
    """A network of diffusers that gives images back with their shape, whatever its class.

    Args:
        network: It; on any device, in any dtype.
        traits: What is known of it already; None: it is run on a small input.

    Raises:
        ModelError: the network doesn't give images back with their shape; it says what failed.
    """

    def __init__(self, network: Any, traits: Traits | None = None) -> None:
        super().__init__()
        self.network = network
        self.traits = traits or _known_traits(network)
        self.tile: int | None = None
        """Side of its tiles, in pixels; None: images go through whole. `hfgen.autoencoders.tiles.tile` sets it."""

    @property
    def channels(self) -> int:
        """Of the images that it is measured on: 1 (grey) or 3 (RGB)."""
        return 1 if self.traits.channels == 1 else 3

    @property
    def factor(self) -> int:
        """Side of an image over that of its latent."""
        return self.traits.factor

    @property
    def latent_channels(self) -> int:
        """Of the latent."""
        return self.traits.latent_channels

    @property
    def any_size(self) -> bool:
        """Whether images may have every side that `factor` divides."""
        return self.traits.side is None

    @property
    def trained_side(self) -> int | None:
        """Side of the images that it was trained on, by its config; None where that doesn't say."""
        return self.traits.side or network_calls.setting(self.network, "sample_size")

    @property
    def codebook_size(self) -> int | None:
        """How many codes there are; None: it has no codebook."""
        return network_calls.setting(self.network, "num_vq_embeddings") if self.traits.quantised else None

    @property
    def can_be_copied(self) -> bool:
        """Whether a copy of its network computes alone; a caller's functions may use other networks."""
        return bool(getattr(self.network, "is_known", True))

    @property
    def statistics(self) -> Statistics:
        """How its latents are moved and scaled for a diffusion model."""
        return read_statistics(self.network, self.latent_channels)

    def encode(self, images: Tensor) -> Encoded:
        """Images (N, C, H, W) in [-1, 1], C = 1, 3 or 4 as the network's or without its alpha, with the gradient."""
        if self.traits.channels == 4 and images.shape[1] == 3:
            images = torch.cat([images, torch.ones_like(images[:, :1])], 1)
        if self.traits.unit_range:
            images = images / 2 + 0.5
        images = images[:, :, None] if self.traits.frames else images
        parts = [network_calls.encode(self.network, part) for part in self._parts(images)]
        variances = [part.log_variance for part in parts if part.log_variance is not None]
        return Encoded(torch.cat([part.mean for part in parts]), torch.cat(variances) if variances else None)

    def decode(self, latents: Tensor, *, quantised: bool = True, alpha: bool = False) -> Tensor:
        """Latents (N, c, h, w) -> images in [-1, 1] (not clipped), float32, with the gradient.

        Args:
            latents: In the encoder's own scale, before any quantiser.
            quantised: Whether the codebook, if there is one, is in between.
            alpha: Return the alpha channel of networks that have one.
        """
        return self.decode_with_loss(latents, quantised=quantised, alpha=alpha).images

    def decode_with_loss(self, latents: Tensor, *, quantised: bool = True, alpha: bool = False) -> Decoded:
        """`decode`, with the loss of the network's own quantiser."""
        seed = NOISE_SEED if self.traits.draws else None
        parts = [
            network_calls.decode(self.network, part, frames=self.traits.frames, quantised=quantised, noise_seed=seed)
            for part in self._parts(latents)
        ]
        losses = [part.quantiser_loss for part in parts if part.quantiser_loss is not None]
        images, loss = torch.cat([part.images for part in parts]), torch.stack(losses).mean() if losses else None
        images = images[:, :, 0] if self.traits.frames else images
        images = images.float() * 2 - 1 if self.traits.unit_range else images.float()
        return Decoded(images if alpha or self.traits.channels != 4 else images[:, :3], loss)

    def _parts(self, batch: Tensor) -> Sequence[Tensor]:
        return [batch] if self.traits.batches else batch.split(1)

    def reconstruct(self, images: Tensor, noise: Callable[[tuple[int, ...]], Tensor] | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] from the mean of their posterior, or from their codes; not clipped.

        With `noise`, which gives standard normal numbers (N, c, h, w), from a sample of the posterior.
        """
        encoded = self.encode(images)
        latents = encoded.mean if noise is None else encoded.sample(noise(tuple(encoded.mean.shape)))
        return self.decode(latents, alpha=images.shape[1] == 4)

    def codes(self, latents: Tensor) -> Tensor:
        """Codes (N, h * w) of latents (N, c, h, w), where there is a codebook."""
        indices = self.network.quantize(latents.to(network_calls.first_weight(self.network)))[2][2]
        return indices.reshape(len(latents), -1)

    def quantise(self, latents: Tensor) -> Tensor:
        """Latents replaced by their codes' vectors; as they are where there is no codebook."""
        if not self.traits.quantised:
            return latents
        return self.network.quantize(latents.to(network_calls.first_weight(self.network)))[0].float()

    def normalise(self, latents: Tensor) -> Tensor:
        """Latents (N, c, h, w) as a diffusion model sees them: see `statistics`."""
        return self.statistics.normalise(latents)

    def parameters_behind(self, total: Callable[[], Tensor]) -> list[str]:
        """Names in `named_parameters` of what a gradient of `total()` (scalar) reaches."""
        asked = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        self.requires_grad_(True)
        try:
            with torch.enable_grad():
                found = torch.autograd.grad(total(), list(self.parameters()), allow_unused=True)
        except RuntimeError:  # Nothing is trained in what was run.
            return []
        finally:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(asked[name])
        return [name for name, gradient in zip(asked, found, strict=True) if gradient is not None]

    def decoder_parameters(self, latents: Tensor) -> list[str]:
        """Names in `named_parameters` of what images of `latents` depend on: the decoder's own.

        Training that must leave the latents, and their codes, as they are leaves everything else.
        """
        return self.parameters_behind(lambda: self.decode(latents.detach()).sum())

    @torch.no_grad()
    def last_weight(self, latents: Tensor | None = None) -> nn.Parameter:
        """The weight (out, in, ...) of the last layer that the decoder runs; `latents` to find it with the first time.

        A copy of the network knows its own.
        """
        known = vars(self.network)
        if latents is not None and _LAST not in known:
            known[_LAST] = self._find_last_weight(latents)
        return self.network.get_parameter(known[_LAST])

    def _find_last_weight(self, latents: Tensor) -> str:
        ran: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, name=name: ran.append(f"{name}.weight".lstrip(".")))
            for name, module in self.network.named_modules()
            if (weight := module._parameters.get("weight")) is not None and weight.ndim > 1
        ]
        try:
            self.decode(latents)
        finally:
            for hook in hooks:
                hook.remove()
        return ran[-1]

    def notes(self) -> list[str]:
        """What is done to images for this network, a line each."""
        found = []
        name = type(self.network).__name__
        if self.traits.unit_range:
            found.append(f"{name} takes images in [0, 1], and gives such")
        if self.traits.frames:
            found.append(f"{name} takes videos: each image is one of a single frame")
        if self.traits.channels == 4:
            found.append(f"{name} takes an alpha channel: images without one are opaque")
        if self.traits.draws:
            found.append(f"the decoder of {name} draws noise: that of seed {NOISE_SEED}, for every image alike")
        return found


def _known_traits(network: Any) -> Traits:
    """Each network is run once; its copies keep what was found."""
    known = vars(network)
    if _TRAITS not in known:
        known[_TRAITS] = find_traits(network)
    return known[_TRAITS]
