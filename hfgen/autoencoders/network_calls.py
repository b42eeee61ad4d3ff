"""How a network of diffusers is called: one image batch in, one out, whatever its class expects and returns."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Encoded(NamedTuple):
    """What an encoder says of images, in float32.

    Attributes:
        mean: (N, c, h, w): the posterior's mean, or the latents themselves, before any quantiser.
        log_variance: Of the posterior, alike; None where the encoder gives no variance.
    """

    mean: Tensor
    log_variance: Tensor | None

    @property
    def deviation(self) -> Tensor | None:
        """The posterior's standard deviation; None where the encoder gives none."""
        return None if self.log_variance is None else (0.5 * self.log_variance).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """The latents moved by standard normal `noise` of their shape; the mean where there is no variance."""
        return self.mean if self.deviation is None else self.mean + self.deviation * noise.to(self.mean)


def class_fits(cls: Any) -> bool:
    """Whether a class of networks can be asked to encode and to decode."""
    return all(callable(getattr(cls, name, None)) for name in ("encode", "decode"))


def setting(network: Any, name: str) -> Any:
    """What a network's config says; None where it doesn't, or where there is no config."""
    return getattr(network, "config", {}).get(name)


def first_weight(network: Any) -> Tensor:
    """One of its weights, which says where and in which numbers it computes."""
    return next(network.parameters())


def encode(network: Any, images: Tensor) -> Encoded:
    """`images` as the network takes them, (N, C, H, W) or (N, C, 1, H, W).

    Raises:
        ValueError: what comes back is no grid of latents.
    """
    weight = first_weight(network)
    output = network.encode(images.to(weight.device, weight.dtype))
    if isinstance(output, torch.distributions.Distribution):
        return Encoded(_grid(output.mean), _grid(2 * output.stddev.log()))
    if _is_posterior(output):
        return Encoded(*map(_grid, output))
    distribution = getattr(output, "latent_dist", None)
    if distribution is not None:
        mean = distribution.mean if hasattr(distribution, "mean") else distribution.mode()
        log_variance = getattr(distribution, "logvar", None)
        if log_variance is None and hasattr(distribution, "std"):
            log_variance = 2 * distribution.std.log()
        return Encoded(_grid(mean), None if log_variance is None else _grid(log_variance))
    named = (getattr(output, name, None) for name in ("latent", "latents"))
    latents = next((value for value in named if value is not None), output)
    if isinstance(latents, tuple):
        latents = latents[0]
    if not isinstance(latents, Tensor):
        raise ValueError(f"encode returns a {type(output).__name__}, without latents")
    return Encoded(_grid(latents), None)


def _is_posterior(output: Any) -> bool:
    """Whether it is what networks without diffusers' classes give: (mean, log variance), alike in shape."""
    pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(part, Tensor) for part in output)
    return pair and output[0].shape == output[1].shape and output[1].is_floating_point()


def _grid(latents: Tensor) -> Tensor:
    if latents.ndim == 5 and latents.shape[2] == 1:
        latents = latents[:, :, 0]
    if latents.ndim != 4:
        raise ValueError(f"its latents have the shape {tuple(latents.shape)}, which is no grid (N, C, h, w)")
    return latents.float()


class Decoded(NamedTuple):
    """Images as the network gives them, and the loss of its quantiser (scalar); None where it has none."""

    images: Tensor
    quantiser_loss: Tensor | None


def decode(
    network: Any, latents: Tensor, *, frames: bool, quantised: bool = True, noise_seed: int | None = None
) -> Decoded:
    """Latents (N, c, h, w) -> images as the network gives them.

    Args:
        network: Of diffusers.
        latents: Of any float type.
        frames: Whether it takes videos, here of one frame.
        quantised: Whether its quantiser, if it has one, is in between.
        noise_seed: Of what the decoder draws, the same for each image; None: it draws nothing.
    """
    weight, accepted = first_weight(network), inspect.signature(network.decode).parameters
    latents = latents.to(weight.device, weight.dtype)
    options: dict[str, Any] = {}
    if "num_frames" in accepted:
        options["num_frames"] = 1
    if "force_not_quantize" in accepted and not quantised:
        options["force_not_quantize"] = True
    if "temb" in accepted and setting(network, "timestep_conditioning"):
        # As the pipelines' decode_timestep does by default: no noise is added to the latents.
        options["temb"] = torch.zeros(len(latents), device=latents.device, dtype=latents.dtype)
    with drawing(noise_seed, latents.device):
        if noise_seed is not None and "generator" in accepted:
            options["generator"] = [torch.Generator().manual_seed(noise_seed) for _ in range(len(latents))]
        output = network.decode(latents[:, :, None] if frames else latents, **options)
    images = getattr(output, "sample", output)
    images = images[0] if isinstance(images, tuple) else images
    return Decoded(images, getattr(output, "commit_loss", None))


@contextlib.contextmanager
def drawing(seed: int | None, device: torch.device) -> Iterator[None]:
    """Within, torch's own generators give what `seed` says; outside they are as they were."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def takes_quantiser(network: Any) -> bool:
    """Whether a quantiser stands between its encoder and its decoder, which `decode` can leave out."""
    has_one = callable(getattr(network, "quantize", None))
    return has_one and "force_not_quantize" in inspect.signature(network.decode).parameters
