"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import dataclasses
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import batch_indices, open_store, stored_side
from hfgen.documents import RECORD
from hfgen.errors import UserError
from hfgen.evaluation.card import dataset_card
from hfgen.evaluation.dataset import write_dataset
from hfgen.evaluation.measurement import NEIGHBOURS, HeldOut, held_out_images, measure
from hfgen.evaluation.workspace import fill, gather, workspace
from hfgen.files import folder_state, write_text
from hfgen.hub.downloads import commit_of
from hfgen.images import to_float, unit_to_uint8
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.loading import open_model
from hfgen.seeds import derive_seed

_BATCH, _BATCH_PIXELS = 250, 2**18
_LIBRARIES = ("hfgen", "torch", "diffusers", "transformers", "datasets", "scipy")

SmallImages = Literal["refuse", "pad", "upscale"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured of one model, and the images behind it, all uint8 (n, C, R, R) in one order.

    Attributes:
        record: The record, as JSON values; see DESIGN in the README.
        originals: Held-out images.
        labels: Their classes (n,), or None.
        reconstructions: Their reconstructions, or None where the model has no encoder.
        samples: Generated images, one a seed; the reconstructions, where the model draws nothing from noise alone.
        seeds: Seeds of the samples: `torch.Generator().manual_seed(seed)` draws that one image again. Else [].
        others: Training images that the baseline and memorisation are measured with, at most n.
        extractor: The judge.
        columns: Per image, what else the dataset holds: metrics of the pair (n,), `posterior_mean` or `codes` (n, L).
    """

    record: dict[str, Any]
    originals: Tensor
    labels: Tensor | None
    reconstructions: Tensor | None
    samples: Tensor
    seeds: list[int]
    others: Tensor | None = None
    extractor: metrics.Extractor | None = None
    columns: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def evaluate(
    model: str | Path,
    data: str,
    *,
    split: str = "test",
    n: int = 2000,
    seed: int = 0,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    extractor: str = "embedded",
    resolution: int | None = None,
    variant: str | None = None,
    out: Path | None = None,
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples.

    Set metrics compare the samples with the held-out images in the features of `extractor`: `embedded`, a small
    classifier trained on the data's train split; `inception`; or an image network of transformers, a folder or
    `org/name[@revision]`. `baseline` compares as many training images with the held-out ones. Interrupted, the same
    call continues with the images that `out` holds. `resolution` and `variant` are those of `hfgen.load`.

    Raises:
        UserError: the model, the data or the extractor can't be had, the split has fewer than `n` images, or `out` is
            taken.
    """
    pipeline, folder = open_model(model, variant=variant, resolution=resolution)
    pipeline.set_progress_bar_config(disable=True)
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
        extractor=extractor,
    )
    facts = {
        "id": str(model),
        "revision": commit_of(folder),
        "family": pipeline.family,
        "parameters": pipeline.parameter_count,
        "codebook_size": pipeline.codebook_size,
    }
    record = _protocol(facts, real, data, seed)
    _check_out(out, record)
    seeds = [derive_seed("sample", seed, index) for index in range(n)] if pipeline.can_sample else []
    with workspace(out, {**record, "weights": folder_state(folder)}) as partial_results:
        reconstructions, samples, encodings = _make(pipeline, real, seeds, partial_results)
        evaluation = _finish(record, real, reconstructions, samples, seeds, encodings)
        if out is not None:
            save_evaluation(evaluation, out, real)
    return evaluation


def evaluate_samples(
    samples: str,
    data: str,
    *,
    samples_split: str = "all",
    split: str = "test",
    n: int = 2000,
    seed: int = 0,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    extractor: str = "embedded",
    resolution: int | None = None,
    out: Path | None = None,
) -> Evaluation:
    """Measure `n` images that somebody else made, a DATA of its own, against held-out images of `data`.

    `resolution` is that of the first image by default. Arguments and errors are those of `evaluate`.
    """
    resolution = resolution or stored_side(samples, samples_split)
    settings: dict[str, Any] = {"small_images": small_images, "skip_damaged": skip_damaged}
    store = open_store(samples, split=samples_split, resolution=resolution, **settings)
    if n > len(store):
        raise UserError(f"n: {n} images asked of the {len(store)} in {samples}; give at most {len(store)}")
    real = held_out_images(
        data,
        split=split,
        n=n,
        seed=seed,
        resolution=resolution,
        channels=store.channels,
        extractor=extractor,
        **settings,
    )
    facts = {"id": samples, "revision": store.revision, "family": "samples", "parameters": None, "codebook_size": None}
    record = _protocol(facts, real, data, seed)
    _check_out(out, record)
    images = gather(store.gather, batch_indices(len(store), 0, n, seed), store.images.shape[1:])
    evaluation = _finish(record, real, None, images, [], {})
    if out is not None:
        save_evaluation(evaluation, out, real)
    return evaluation


def _protocol(model: dict[str, Any], real: HeldOut, data: str, seed: int) -> dict[str, Any]:
    """The record, but for what is measured."""
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
            "fingerprint": store.fingerprint,
        },
        "protocol": {
            "seed": seed,
            "neighbours": NEIGHBOURS,
            "extractor": real.extractor.facts(),
            "versions": {name: version(name) for name in _LIBRARIES},
        },
    }


def _make(
    pipeline: ImagePipeline, real: HeldOut, seeds: list[int], folder: Path
) -> tuple[Tensor | None, Tensor, dict[str, Tensor]]:
    """Reconstructions, samples and encodings, batch by batch; what `folder` holds already isn't made again."""
    count, batch = len(real.inputs), _batch_size(real.store.resolution)
    step = partial(fill, folder, count=count, batch=batch)
    reconstructions, encodings = None, {}
    if pipeline.can_reconstruct:
        reconstructions = step(
            "reconstructions",
            make=lambda rows: {"images": reconstruct(pipeline, real.inputs[rows])},
            what="reconstructing",
        )["images"]
    if encode(pipeline, real.inputs[:1]):
        encodings = step("encodings", make=lambda rows: encode(pipeline, real.inputs[rows]), what="encoding")
    if not seeds:
        assert reconstructions is not None, "a pipeline samples or reconstructs"
        return reconstructions, reconstructions, encodings

    def draw(rows: slice) -> dict[str, Tensor]:
        return {"images": generate(pipeline, seeds[rows])}

    samples = step("samples", make=draw, what="sampling")
    return reconstructions, samples["images"], encodings


def _batch_size(resolution: int) -> int:
    return max(1, min(_BATCH, _BATCH_PIXELS // resolution**2))


def generate(pipeline: ImagePipeline, seeds: list[int]) -> Tensor:
    """One image a seed, whatever the batches: uint8 (n, C, R, R)."""
    images = []
    for first in range(0, len(seeds), batch := _batch_size(pipeline.sample_size)):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + batch]]
        output = pipeline(batch_size=len(generators), generator=generators, output_type="pt")
        images.append(unit_to_uint8(output.images))
    return torch.cat(images)


def reconstruct(pipeline: ImagePipeline, inputs: Tensor) -> Tensor:
    """Reconstructions of uint8 images (n, C, R, R), uint8 too.

    Raises:
        UserError: images of a size that the model can't take.
    """
    try:
        outputs = (
            pipeline.reconstruct(to_float(part), output_type="pt").images
            for part in inputs.split(_batch_size(inputs.shape[-1]))
        )
        return torch.cat([unit_to_uint8(images) for images in outputs])
    except ValueError as error:
        raise UserError(f"resolution: {error}") from None


def encode(pipeline: ImagePipeline, inputs: Tensor) -> dict[str, Tensor]:
    """What the encoder says of uint8 images: `posterior_mean` (n, D) and `rate_bits` (n,), or `codes` (n, L)."""
    images, found = to_float(inputs), {}
    posterior, codes = pipeline.posterior(images), pipeline.codes(images)
    if posterior is not None:
        mean, log_variance = posterior
        found = {"posterior_mean": mean.flatten(1), "rate_bits": metrics.kl_bits(mean, log_variance)}
    if codes is not None:
        found["codes"] = codes
    return found


def _finish(
    record: dict[str, Any],
    real: HeldOut,
    reconstructions: Tensor | None,
    samples: Tensor,
    seeds: list[int],
    encodings: dict[str, Tensor],
) -> Evaluation:
    measured = measure(
        real, reconstructions, samples, record["protocol"]["seed"], encodings, record["model"]["codebook_size"]
    )
    columns = {**measured.columns, **encodings}
    complete = {**record, **measured.record}
    return Evaluation(
        complete, real.images, real.labels, reconstructions, samples, seeds, real.others, real.extractor, columns
    )


def _check_out(out: Path | None, record: dict[str, Any]) -> None:
    """Refuse a folder that holds the record of another model or other data."""
    if out is None or not (out / "record.json").exists():
        return
    before = RECORD.read(out / "record.json")
    for field in ("model", "data"):
        was = before[field]["id"]
        if was != record[field]["id"]:
            raise UserError(f"out: {out} holds the record of another {field} ({was}); choose another --out")


def save_evaluation(evaluation: Evaluation, out: Path, real: HeldOut) -> None:
    """Write `out`/record.json and `out`/dataset/, which `load_dataset` reads and `hfgen evaluate --verify` measures."""
    columns: dict[str, Any] = {"original": evaluation.originals}
    if evaluation.reconstructions is not None:
        columns["reconstruction"] = evaluation.reconstructions
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
