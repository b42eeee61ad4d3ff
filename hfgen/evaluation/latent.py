"""A model's latents -> the record's `latent`: statistics, and what its decoder makes of changed ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Collector, Estimate
from hfgen.seeds import derive_seed

NOISES = (0.1, 0.5)
"""Of a latent, in standard deviations of its channel."""

_FEWEST, _MOST, _PIXELS, _CENTRE = 6, 64, 3 * 2**16, 128
_OFF = 0.1
Transform = Callable[[Tensor], Tensor]
_SAME_SIZE: dict[str, Transform] = {
    "flip": lambda images: images.flip(-1),
    "quarter_turn": lambda images: images.rot90(1, (2, 3)),
}


class Coder(Protocol):
    """Images (N, C, H, W) in [-1, 1] -> latents -> images; `hfgen.autoencoders.Autoencoder` is one."""

    @property
    def factor(self) -> int:
        """Side of an image over that of its latent."""

    @property
    def any_size(self) -> bool:
        """Whether images may have every side that `factor` divides."""

    def encode(self, images: Tensor) -> Any:
        """Has `mean` (N, c, h, w)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Not clipped."""


def latent_section(
    latents: Tensor,
    variances: Tensor | None,
    log_variances: Tensor | None,
    *,
    side: int,
    codebook_size: int | None,
    found: Collector,
) -> dict[str, Any]:
    """What is known of latents (n, c, h, w) of images of `side` pixels, without running the model.

    `variances` and `log_variances` (n, c): of the posterior, mean over places.
    """
    channels, height, width = latents.shape[1:]
    section: dict[str, Any] = {"shape": [channels, height, width], "factor": max(1, side // height)}
    statistics = metrics.channel_statistics(latents, variances)
    for name in ("mean", "deviation", "kurtosis"):
        section[name] = getattr(statistics, name).tolist()
    section["components_99"] = statistics.components
    try:
        frequencies, power = metrics.latent_spectrum(latents)
        section["spectrum"] = {"frequencies": frequencies, "power": power}
    except UserError as error:
        found.note(f"latent.spectrum: left out ({str(error).partition(';')[0]})")
    if codebook_size:
        section["bits_per_pixel"] = height * width * math.log2(codebook_size) / side**2
    elif log_variances is not None:
        try:
            bits = metrics.posterior_bits(statistics, log_variances, height * width)
            section["bits_per_pixel"] = bits / side**2
        except UserError as error:
            found.note(f"latent.bits_per_pixel: left out ({str(error).partition(';')[0]})")
    return section


def scale_notes(section: dict[str, Any], shift: Tensor, scale: Tensor) -> list[str]:
    """A line where what a config says of the latents is off by more than 10 % on these images.

    `shift` and `scale` (c, p, p): a diffusion model sees (z - shift) * scale. All 0 and 1 say nothing.
    """
    if not (shift != 0).any() and not (scale != 1).any():
        return []
    deviation, mean = (torch.tensor(section[name], dtype=torch.float64) for name in ("deviation", "mean"))
    shifts, scales = (values.double().mean((1, 2)) for values in (shift, scale))
    by_channel = bool((scales != scales[0]).any() or (shifts != shifts[0]).any())
    seen_mean, seen = (mean - shifts) * scales, deviation * scales
    if not by_channel:
        # One factor for all: what counts is the whole latent's deviation, about the whole latent's mean.
        seen = (seen.square() + (seen_mean - seen_mean.mean()).square()).mean().sqrt()[None]
        seen_mean = seen_mean.mean()[None]
    lines = []
    if ((seen - 1).abs() > _OFF).any():
        worst = float(seen[(seen - 1).abs().argmax()])
        remedy = f"; a scaling_factor of {float(scales[0]) / worst:.4g} would make it 1" if not by_channel else ""
        what = "the scaled latent's standard deviation" if not by_channel else "a scaled channel's standard deviation"
        lines.append(f"latent: {what} is {worst:.2f} on these images, not 1{remedy}")
    if (seen_mean.abs() > _OFF).any():
        worst = float(seen_mean[seen_mean.abs().argmax()])
        what = "the scaled latent's mean" if not by_channel else "a scaled channel's mean"
        lines.append(f"latent: {what} is {worst:.2f} on these images, not 0")
    return lines


@torch.no_grad()
def changed_latents(
    coder: Coder, images: Tensor, deviation: list[float], *, device: torch.device, seed: int, found: Collector
) -> dict[str, Any]:
    """What the decoder makes of latents that are turned, shrunk or noisy; mean PSNR in dB over some of the images.

    Where sizes are free, large images are cut to their centres. `equivariance`: how many dB decode(T(z)) is farther
    from T(x) than the model's reconstruction of the image itself, for `flip`, `quarter_turn` and, where sizes are free,
    `half` the size; 0 commutes with T (2502.09509). `noise`: the PSNR of decode(z + s n) against decode(z), n normal
    with each channel's `deviation`, by s.
    """
    pictures = centres(images, coder) if coder.any_size else images
    pictures = pictures[: max(_FEWEST, min(_MOST, _PIXELS // pictures.shape[-1] ** 2))]
    batch = max(1, 2**18 // pictures.shape[-1] ** 2)

    def encoded(values: Tensor) -> Tensor:
        return torch.cat([coder.encode(to_float(part.to(device))).mean for part in values.split(batch)])

    def decoded(values: Tensor) -> Tensor:
        return torch.cat([to_uint8(coder.decode(part).cpu()) for part in values.split(batch)])

    def mean(values: Tensor) -> Estimate:
        return metrics.bootstrap_mean(values.double(), seed=seed)

    latents = encoded(pictures)
    plain = decoded(latents)
    own = metrics.capped_psnr(pictures, plain)
    losses = {
        name: own - metrics.capped_psnr(change(pictures), decoded(change(latents)))
        for name, change in _SAME_SIZE.items()
    }
    if coder.any_size and not latents.shape[2] % 2 and not latents.shape[3] % 2:
        small = to_uint8(avg_pool2d(to_float(pictures), 2))
        best = metrics.capped_psnr(small, decoded(encoded(small)))
        losses["half"] = best - metrics.capped_psnr(small, decoded(avg_pool2d(latents, 2)))
    generator = torch.Generator().manual_seed(derive_seed("latent noise", seed))
    draws = torch.randn(latents.shape, generator=generator) * torch.tensor(deviation).view(-1, 1, 1)
    errors = {
        f"{level:g}": metrics.capped_psnr(plain, decoded(latents + level * draws.to(latents))) for level in NOISES
    }
    section: dict[str, Any] = {}
    for kind, values in (("equivariance", losses), ("noise", errors)):
        attempts = {name: found.attempt(f"latent.{kind}.{name}", partial(mean, psnr)) for name, psnr in values.items()}
        section[kind] = {name: estimate.as_dict() for name, estimate in attempts.items() if estimate is not None}
    return section


def centres(images: Tensor, coder: Coder) -> Tensor:
    """Squares of about 128 pixels, which an even latent fits, of larger images."""
    height, width = images.shape[2:]
    side = max(1, _CENTRE // (2 * coder.factor)) * 2 * coder.factor
    if min(height, width) <= side:
        return images
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]
