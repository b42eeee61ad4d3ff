"""A model over images: each is encoded once and decoded once, batch by batch, and kept on the disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.errors import SettingsError
from hfgen.evaluation.workspace import fill
from hfgen.images import to_float, to_uint8, unit_to_uint8
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of
from hfgen.pipelines.finite import check_images, counted, finite_outputs

_BATCH, _BATCH_PIXELS = 250, 2**18
_HELD_OUT = "held-out image"
_MOST_NUMBERS = 1024


class Encodings(NamedTuple):
    """What an encoder said of n images, on the CPU.

    Attributes:
        latents: Means of the posterior, or latents before any quantiser: float32 (n, c, h, w).
        variances: Of the posterior, by image and channel: the mean over places of its variance (n, c).
        log_variances: The same of the variance's logarithm.
        columns: For the dataset, by name: `rate_bits` (n,), `posterior_mean` (n, L) of at most 1024 numbers, `codes`.
    """

    latents: Tensor | None
    variances: Tensor | None
    log_variances: Tensor | None
    columns: dict[str, Tensor]


class Made(NamedTuple):
    """What a model made of held-out images, uint8 (n, C, R, R); None where it doesn't."""

    reconstructions: Tensor | None
    samples: Tensor | None
    encodings: Encodings


NOTHING = Encodings(None, None, None, {})


def make(pipeline: ImagePipeline, inputs: Tensor, seeds: list[int], folder: Path) -> Made:
    """Reconstructions of uint8 inputs (n, C, R, R), and a sample a seed; what `folder` holds already isn't made again.

    Raises:
        UserError: as `reconstruct` and `generate`.
    """
    step = partial(fill, folder, count=len(inputs), batch=batch_size(inputs.shape[-1]))
    reconstructions, encodings = None, NOTHING
    coder = codec_of(pipeline)
    if coder is not None:
        found = step(
            "reconstructions", make=lambda rows: _both(pipeline, coder, inputs[rows], rows.start), what="reconstructing"
        )
        reconstructions, encodings = found.pop("images"), _encodings(found)
    elif pipeline.can_reconstruct:
        reconstructions = step(
            "reconstructions",
            make=lambda rows: {"images": reconstruct(pipeline, inputs[rows], rows.start)},
            what="reconstructing",
        )["images"]
    if not seeds:
        # An autoencoder's reconstructions aren't samples: judged as such, they would cover and match all by themselves.
        return Made(reconstructions, reconstructions if pipeline.translates else None, encodings)

    def draw(rows: slice) -> dict[str, Tensor]:
        return {"images": generate(pipeline, seeds[rows], rows.start)}

    return Made(reconstructions, step("samples", make=draw, what="sampling")["images"], encodings)


def batch_size(resolution: int) -> int:
    """How many images go through a model at once."""
    return max(1, min(_BATCH, _BATCH_PIXELS // resolution**2))


@torch.no_grad()
def _both(pipeline: ImagePipeline, coder: Autoencoder, images: Tensor, start: int) -> dict[str, Tensor]:
    """Reconstructions and encodings of one batch, by name."""
    with counted(_HELD_OUT, start), finite_outputs(pipeline):
        encoded = coder.encode(to_float(images.to(pipeline.device)))
        decoded = coder.decode(encoded.mean)
        check_images(decoded)
    found = {"images": to_uint8(decoded.cpu()), "latents": encoded.mean.cpu()}
    if encoded.log_variance is not None:
        found |= {
            "variances": encoded.log_variance.exp().mean((2, 3)),
            "log_variances": encoded.log_variance.mean((2, 3)),
            "rate_bits": metrics.kl_bits(encoded.mean.cpu(), encoded.log_variance.cpu()),
        }
    if coder.codebook_size:
        found["codes"] = coder.codes(encoded.mean)
    return found


def _encodings(found: dict[str, Tensor]) -> Encodings:
    latents, columns = found["latents"], {}
    if "rate_bits" in found and latents[0].numel() <= _MOST_NUMBERS:
        columns["posterior_mean"] = latents.flatten(1)
    columns |= {name: found[name] for name in ("rate_bits", "codes") if name in found}
    return Encodings(latents, found.get("variances"), found.get("log_variances"), columns)


def generate(pipeline: ImagePipeline, seeds: list[int], start: int = 0) -> Tensor:
    """One image a seed, whatever the batches: uint8 (n, C, R, R).

    Raises:
        NonFinite: the model gives NaN or infinity; samples are counted from `start`.
    """
    images = []
    for first in range(0, len(seeds), batch := batch_size(pipeline.sample_size)):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + batch]]
        with counted("sample", start + first), finite_outputs(pipeline):
            output = pipeline(batch_size=len(generators), generator=generators, output_type="pt")
            check_images(output.images)
        images.append(unit_to_uint8(output.images))
    return torch.cat(images)


def reconstruct(pipeline: ImagePipeline, inputs: Tensor, start: int = 0) -> Tensor:
    """Reconstructions of uint8 images (n, C, R, R), uint8 too.

    Raises:
        SettingsError: images of a size that the model can't take.
        NonFinite: the model gives NaN or infinity; images are counted from `start`.
    """
    images = []
    for first in range(0, len(inputs), batch := batch_size(inputs.shape[-1])):
        with counted(_HELD_OUT, start + first), finite_outputs(pipeline):
            try:
                part = to_float(inputs[first : first + batch].to(pipeline.device))
                output = pipeline.reconstruct(part, output_type="pt").images
            except ValueError as error:
                raise SettingsError(f"resolution: {error}") from None
            check_images(output)
        images.append(unit_to_uint8(output))
    return torch.cat(images)


def encode(pipeline: ImagePipeline, inputs: Tensor, start: int = 0) -> dict[str, Tensor]:
    """What the encoder says of uint8 images: `posterior_mean` (n, D) and `rate_bits` (n,), or `codes` (n, L); CPU.

    Raises:
        NonFinite: as `reconstruct`.
    """
    images, found = to_float(inputs), {}
    with counted(_HELD_OUT, start), finite_outputs(pipeline):
        posterior, codes = pipeline.posterior(images), pipeline.codes(images)
    if posterior is not None:
        mean, log_variance = (part.cpu() for part in posterior)
        found = {"posterior_mean": mean.flatten(1), "rate_bits": metrics.kl_bits(mean, log_variance)}
    if codes is not None:
        found["codes"] = codes.cpu()
    return found
