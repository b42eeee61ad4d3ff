"""A model over images: each is encoded once and decoded once, batch by batch, and kept on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.errors import SettingsError
from hfgen.evaluation.shared_work import Processes, Task
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


def tasks(pipeline: ImagePipeline) -> dict[str, Task]:
    """What is made of one batch, by the name of its group: arrays by name."""
    coder = codec_of(pipeline)

    def reconstructions(images: Tensor, start: int) -> dict[str, Tensor]:
        if coder is not None:
            return _both(pipeline, coder, images, start)
        # A flow's decoder isn't an autoencoder's, and what its encoder says is the same.
        with counted(_HELD_OUT, start), finite_outputs(pipeline):
            posterior = pipeline.posterior(to_float(images))
        said = {} if posterior is None else _of_posterior(*posterior)
        return {"images": reconstruct(pipeline, images, start), **said}

    def samples(seeds: list[int], start: int) -> dict[str, Tensor]:
        return {"images": generate(pipeline, seeds, start)}

    return {"reconstructions": reconstructions, "samples": samples}


def make(
    pipeline: ImagePipeline, inputs: Tensor, seeds: list[int], folder: Path, processes: Processes | None = None
) -> Made:
    """Reconstructions of uint8 inputs (n, C, R, R), and a sample a seed; what `folder` holds already isn't made again.

    `processes` share the batches, of the same images as in one.

    Raises:
        UserError: as `reconstruct` and `generate`.
    """
    made_by, size = tasks(pipeline), batch_size(inputs.shape[-1])

    def step(group: str, given: Any, what: str) -> dict[str, Tensor]:
        def some(slices: list[slice]) -> list[dict[str, Tensor]]:
            arguments = [(given[rows], rows.start) for rows in slices]
            return (
                [made_by[group](*each) for each in arguments] if processes is None else processes.run(group, arguments)
            )

        return fill(folder, group, len(given), size, some, what, at_once=processes.count if processes else 1)

    reconstructions, encodings = None, NOTHING
    if pipeline.can_reconstruct or codec_of(pipeline) is not None:
        found = step("reconstructions", inputs, "reconstructing")
        reconstructions = found.pop("images")
        encodings = _encodings(found) if found else NOTHING
    if not seeds:
        # An autoencoder's reconstructions aren't samples: judged as such, they would cover and match all by themselves.
        return Made(reconstructions, reconstructions if pipeline.translates else None, encodings)
    return Made(reconstructions, step("samples", seeds, "sampling")["images"], encodings)


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
    found = {"images": to_uint8(decoded.cpu()), **_of_posterior(encoded.mean, encoded.log_variance)}
    if coder.codebook_size:
        found["codes"] = coder.codes(encoded.mean)
    return found


def _of_posterior(mean: Tensor, log_variance: Tensor | None) -> dict[str, Tensor]:
    """What is kept of posteriors (N, c, h, w); of latents without a variance, the latents."""
    if log_variance is None:
        return {"latents": mean.cpu()}
    return {
        "latents": mean.cpu(),
        "variances": log_variance.exp().mean((2, 3)),
        "log_variances": log_variance.mean((2, 3)),
        "rate_bits": metrics.kl_bits(mean.cpu(), log_variance.cpu()),
    }


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
