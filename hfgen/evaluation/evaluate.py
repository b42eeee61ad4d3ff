"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import dataclasses
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.documents import RECORD
from hfgen.errors import SettingsError
from hfgen.evaluation.card import dataset_card
from hfgen.evaluation.dataset import write_dataset
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.measurement import DISTANCES, NEIGHBOURS, measure
from hfgen.evaluation.workspace import fill, workspace
from hfgen.files import folder_state, read_json, write_text
from hfgen.hub.downloads import commit_of
from hfgen.images import to_float, unit_to_uint8
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import seams_of
from hfgen.pipelines.finite import check_images, counted, finite_outputs
from hfgen.pipelines.loading import open_model
from hfgen.seeds import derive_seed

_BATCH, _BATCH_PIXELS = 250, 2**18
_HELD_OUT = "held-out image"
_SEAM_IMAGES = 4
"""Of tiled models: as many go through whole as well."""
_LIBRARIES = ("hfgen", "torch", "diffusers", "transformers", "datasets", "scipy")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured of one model, and the images behind it, all uint8 (n, C, R, R) in one order.

    Attributes:
        record: The record, as JSON values; see hfgen/schemas.
        originals: Held-out images.
        labels: Their classes (n,), or None.
        reconstructions: Their reconstructions, or None where the model has no encoder.
        samples: Generated images, one a seed; the translations of the held-out conditions, where the model needs a
            condition; None where it draws nothing.
        seeds: Seeds of the samples: `torch.Generator().manual_seed(seed)` draws that one image again. Else [].
        others: Training images that the baseline is measured with, at most n.
        extractor: The judge.
        columns: Per image, what else the dataset holds: metrics of the pair (n,), `posterior_mean` or `codes` (n, L).
    """

    record: dict[str, Any]
    originals: Tensor
    labels: Tensor | None
    reconstructions: Tensor | None
    samples: Tensor | None
    seeds: list[int]
    others: Tensor | None = None
    extractor: metrics.Extractor | None = None
    columns: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def evaluate(
    model: str | Path,
    data: str,
    *,
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    extractor: str = "embedded",
    resolution: int | None = None,
    variant: str | None = None,
    tile: int | None = None,
    out: Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples; by default all, up to 2000.

    Set metrics compare the samples with the held-out images in the features of `extractor`: `embedded`, a small
    classifier trained on the data's train split; `pixels`, statistics of pixels and spectra; `inception`; or an image
    network of transformers, a folder or `org/name[@revision]`. `baseline` compares as many training images with the
    held-out ones, and `judge_power` says which blur and noise of them the extractor detects. Interrupted, the same
    call continues with the images that `out` holds. `resolution`, `variant` and `tile` are those of `hfgen.load`.

    What was converted, guessed or left out is a line each in the record's `notes`. `device` and `dtype` are those of
    `hfgen.devices.choose`; every random number is drawn on the CPU, so that a seed's images are the same on each
    device up to rounding.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, the split has fewer than `n` images, `out` is
            taken, or the model gives NaN or infinity.
    """
    compute = choose(device, dtype)
    choose_n(data, split, n, extractor=extractor, config_name=config_name)
    pipeline, folder = open_model(model, variant=variant, resolution=resolution, tile=tile)
    pipeline = compute.place(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    with metrics.measuring(compute):
        real = held_out_images(
            data,
            split=split,
            n=n,
            seed=seed,
            resolution=pipeline.sample_size,
            channels=pipeline.channels,
            condition=pipeline.paired_with,
            small_images=small_images,
            skip_damaged=skip_damaged,
            image_column=image_column,
            label_column=label_column,
            config_name=config_name,
            extractor=extractor,
            device=compute.device,
        )
        facts = {
            "id": str(model),
            "revision": commit_of(folder),
            "family": pipeline.family,
            "parameters": pipeline.parameter_count,
            "codebook_size": pipeline.codebook_size,
        }
        made = {**compute.facts(), "batch": _batch_size(real.store.resolution)}
        record = protocol_of(facts, real, data, seed, made)
        check_out(out, record)
        if (seams := seams_of(pipeline, real.images[:_SEAM_IMAGES])) is not None:
            record["tiles"] = seams
        count = len(real.images)
        seeds = [derive_seed("sample", seed, index) for index in range(count)] if pipeline.can_sample else []
        with workspace(out, {**record, "weights": folder_state(folder)}) as partial_results:
            reconstructions, samples, encodings = _make(pipeline, real, seeds, partial_results)
            notes = [] if samples is not None else [f"samples: a model of family {pipeline.family} draws none"]
            evaluation = finish(record, real, reconstructions, samples, seeds, encodings, notes)
            if out is not None:
                save_evaluation(evaluation, out, real)
        return evaluation


def protocol_of(model: dict[str, Any], real: HeldOut, data: str, seed: int, made: dict[str, Any]) -> dict[str, Any]:
    """The record, without what is measured; `made`: device, dtype and batch of the model's images."""
    store = real.store
    return {
        "schema": RECORD.version,
        "model": model,
        "data": {
            "id": data,
            "revision": store.revision,
            "split": store.split,
            "n": len(real.images),
            "resolution": store.resolution,
            "channels": store.channels,
            "fingerprint": store.fingerprint,
        },
        "protocol": {
            "seed": seed,
            "neighbours": NEIGHBOURS,
            "window": real.window,
            "extractor": real.extractor.facts(),
            "versions": {name: version(name) for name in _LIBRARIES},
            **made,
        },
    }


def _make(
    pipeline: ImagePipeline, real: HeldOut, seeds: list[int], folder: Path
) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
    """Reconstructions, samples and encodings, batch by batch; what `folder` holds already isn't made again."""
    count, batch = len(real.inputs), _batch_size(real.store.resolution)
    step = partial(fill, folder, count=count, batch=batch)
    reconstructions, encodings = None, {}
    if pipeline.can_reconstruct:
        reconstructions = step(
            "reconstructions",
            make=lambda rows: {"images": reconstruct(pipeline, real.inputs[rows], rows.start)},
            what="reconstructing",
        )["images"]
    if encode(pipeline, real.inputs[:1]):
        encodings = step(
            "encodings", make=lambda rows: encode(pipeline, real.inputs[rows], rows.start), what="encoding"
        )
    if not seeds:
        # An autoencoder's reconstructions aren't samples: judged as such, they would cover and match all by themselves.
        return reconstructions, reconstructions if pipeline.translates else None, encodings

    def draw(rows: slice) -> dict[str, Tensor]:
        return {"images": generate(pipeline, seeds[rows], rows.start)}

    samples = step("samples", make=draw, what="sampling")
    return reconstructions, samples["images"], encodings


def _batch_size(resolution: int) -> int:
    return max(1, min(_BATCH, _BATCH_PIXELS // resolution**2))


def generate(pipeline: ImagePipeline, seeds: list[int], start: int = 0) -> Tensor:
    """One image a seed, whatever the batches: uint8 (n, C, R, R).

    Raises:
        NonFinite: the model gives NaN or infinity; samples are counted from `start`.
    """
    images = []
    for first in range(0, len(seeds), batch := _batch_size(pipeline.sample_size)):
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
    for first in range(0, len(inputs), batch := _batch_size(inputs.shape[-1])):
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


def finish(
    record: dict[str, Any],
    real: HeldOut,
    reconstructions: Tensor | None,
    samples: Tensor | None,
    seeds: list[int],
    encodings: dict[str, Tensor],
    notes: list[str],
) -> Evaluation:
    """Measure the images, uint8 (n, C, R, R), and complete the record; `notes` come before what the measures say."""
    distances = None
    if samples is not None:
        theirs = real.training_distances(real.extractor.features(samples))
        distances = dict(zip(DISTANCES, (real.own_distances, theirs), strict=True))
    size = record["model"]["codebook_size"]
    measured = measure(real, reconstructions, samples, record["protocol"]["seed"], encodings, size, distances)
    columns = {**measured.columns, **encodings}
    complete = {**record, **measured.record, "notes": [*notes, *measured.notes]}
    return Evaluation(
        complete, real.images, real.labels, reconstructions, samples, seeds, real.others, real.extractor, columns
    )


def check_out(out: Path | None, record: dict[str, Any]) -> None:
    """Refuse a folder that holds the record of another model or other data.

    Raises:
        SettingsError: it does.
    """
    if out is None or not (out / "record.json").exists():
        return
    # Those of older versions, too, are measured again.
    before = read_json(out / "record.json")
    for field in ("model", "data"):
        was = before.get(field, {}).get("id") if isinstance(before, dict) else None
        if was != record[field]["id"]:
            raise SettingsError(f"out: {out} holds the record of another {field} ({was}); choose another --out")


def save_evaluation(evaluation: Evaluation, out: Path, real: HeldOut) -> None:
    """Write `out`/record.json and `out`/dataset/, which `load_dataset` reads and `hfgen evaluate --verify` measures."""
    columns: dict[str, Any] = {"original": evaluation.originals}
    if evaluation.reconstructions is not None:
        columns["reconstruction"] = evaluation.reconstructions
    if evaluation.samples is not None:
        columns["sample"] = evaluation.samples
    if evaluation.others is not None:
        columns["other"] = evaluation.others
    if evaluation.seeds:
        columns["seed"] = evaluation.seeds
    if evaluation.labels is not None:
        columns["label"] = evaluation.labels

    def add(folder: Path) -> None:
        RECORD.write(folder / "record.json", evaluation.record)
        write_text(folder / "README.md", dataset_card(evaluation.record, [*columns, *evaluation.columns]))
        real.extractor.save(folder / "extractor")

    write_dataset({**columns, **evaluation.columns}, out / "dataset", real.store.label_names, add)
    RECORD.write(out / "record.json", evaluation.record)
