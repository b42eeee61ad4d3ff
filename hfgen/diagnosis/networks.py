"""An autoencoder, whatever its class, as two functions: images -> latents -> images."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hfgen.images import to_float


class Latents(NamedTuple):
    """`mean` (N, C, h, w): the posterior's, or the latents before any quantiser. `deviation`: alike, or None."""

    mean: Tensor
    deviation: Tensor | None


def weight_of(network: Any) -> Tensor:
    """One of its weights, which says where and in which numbers it computes."""
    return next(network.parameters())


def inputs_of(network: Any, images: Tensor) -> Tensor:
    """uint8 images (N, C, R, R) as a network sees them: float32 in [-1, 1], on its device."""
    return to_float(images.to(weight_of(network).device))


def encode(network: Any, images: Tensor) -> Latents:
    """Images (N, C, R, R) in [-1, 1] -> latents in float32, with their gradient; the network has its own dtype."""
    output = network.encode(images.to(weight_of(network).dtype))
    if hasattr(output, "latent_dist"):
        return Latents(output.latent_dist.mean.float(), output.latent_dist.std.float())
    return Latents((output.latents if hasattr(output, "latents") else output.latent).float(), None)


def decode(network: Any, latents: Tensor, *, quantised: bool) -> Tensor:
    """Latents -> images in [-1, 1], float32, with the gradient; `quantised` matters only where there is a codebook."""
    options = {} if quantised or not has_codebook(network) else {"force_not_quantize": True}
    return network.decode(latents.to(weight_of(network).dtype), **options).sample.float()


def has_codebook(network: Any) -> bool:
    """Whether latents are replaced by codes before they are decoded."""
    return bool(network.config.get("num_vq_embeddings"))


def encoder_parts(network: Any) -> list[Any]:
    """The modules that only the encoder uses."""
    return [part for name in ("encoder", "quant_conv", "quantize") if (part := getattr(network, name, None))]
