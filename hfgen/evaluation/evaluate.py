"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import dataclasses
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.documents import RECORD
from hfgen.errors import SettingsError, UserError
from hfgen.evaluation.card import dataset_card
from hfgen.evaluation.dataset import write_dataset
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.latent import centres, changed_latents, latent_section, scale_notes
from hfgen.evaluation.measurement import DISTANCES, measure
from hfgen.evaluation.passes import Made, batch_size, make, reconstruct
from hfgen.evaluation.precision import precision_section
from hfgen.evaluation.reading_test import reading_test
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.evaluation.workspace import workspace
from hfgen.files import folder_state, read_json, write_text
from hfgen.hub.downloads import commit_of
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of, seams_of
from hfgen.pipelines.loading import open_model
from hfgen.seeds import derive_seed

_SEAM_IMAGES = 4
"""Of tiled models: as many go through whole as well."""
_LIBRARIES = ("hfgen", "torch", "diffusers", "transformers", "datasets", "scipy")

logger = logging.getLogger("hfgen")


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
    steps: int | None = None,
    out: Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples; by default all, up to 2000.

    Set metrics compare the samples with the held-out images in the features of `extractor`: `embedded`, a small
    classifier trained on the data's train split; `pixels`, statistics of pixels and spectra; `inception`; or an image
    network of transformers, a folder or `org/name[@revision]`. `baseline` compares as many training images with the
    held-out ones, and `judge_power` says which blur and noise of them the extractor detects. Interrupted, the same
    call continues with the images that `out` holds. `resolution`, `variant`, `tile` and `steps` are those of
    `hfgen.load`.

    What was converted, guessed or left out is a line each in the record's `notes`. `device` and `dtype` are those of
    `hfgen.devices.choose`; every random number is drawn on the CPU, so that a seed's images are the same on each
    device up to rounding.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, the split has fewer than `n` images, `out` is
            taken, or the model gives NaN or infinity.
    """
    compute = choose(device, dtype)
    choose_n(data, split, n, extractor=extractor, config_name=config_name)
    pipeline, folder = open_model(model, variant=variant, resolution=resolution, tile=tile, steps=steps)
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
        if pipeline.sampler is not None:
            facts["sampler"] = pipeline.sampler
        made = {**compute.facts(), "batch": batch_size(real.store.resolution)}
        record = protocol_of(facts, real, data, seed, made)
        check_out(out, record)
        if (seams := seams_of(pipeline, real.images[:_SEAM_IMAGES])) is not None:
            record["tiles"] = seams
        count = len(real.images)
        seeds = [derive_seed("sample", seed, index) for index in range(count)] if pipeline.can_sample else []
        with workspace(out, {**record, "weights": folder_state(folder)}) as partial_results:
            made_of = make(pipeline, real.inputs, seeds, partial_results)
            found = metrics.Collector()
            if made_of.samples is None:
                found.note(f"samples: a model of family {pipeline.family} draws none")
            sections = _look(pipeline, real, made_of, seed, found)
            evaluation = finish(record, real, made_of, seeds, found, sections)
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


def _look(pipeline: ImagePipeline, real: HeldOut, made: Made, seed: int, found: metrics.Collector) -> dict[str, Any]:
    """The record's `reading` and `latent`, which need the model once more, for a few images."""
    coder, latents = codec_of(pipeline), made.encodings.latents
    if coder is None or latents is None:
        return {}
    store, sections = real.store, dict[str, Any]()

    def reconstructed(images: Tensor) -> Tensor:
        return reconstruct(pipeline, images)

    photographs = real.images if real.window == "hann" else None
    try:
        sections["reading"] = reading_test(
            reconstructed, store.resolution, store.channels, photographs=photographs, seed=seed, found=found
        )
    except UserError as error:
        found.note(f"reading: left out ({str(error).partition(';')[0]})")
    variances, log_variances = made.encodings.variances, made.encodings.log_variances
    latent = latent_section(coder, latents, variances, log_variances, side=store.resolution, found=found)
    changed = changed_latents(coder, real.images, latent["deviation"], device=pipeline.device, seed=seed, found=found)
    sections["latent"] = latent | changed
    if not pipeline.can_sample:
        pictures = centres(real.images, coder) if coder.any_size else real.images
        sections["precision"] = precision_section(coder, pictures, device=pipeline.device, seed=seed, found=found)
        # What hfgen trains decodes its own prior's draws, and no factor is applied to them.
        for line in scale_notes(latent, *coder.statistics):
            found.note(line)
            logger.warning("%s", line)
    return sections


def finish(
    record: dict[str, Any],
    real: HeldOut,
    made: Made,
    seeds: list[int],
    found: metrics.Collector,
    sections: dict[str, Any] | None = None,
) -> Evaluation:
    """Measure what was made, and complete the record with that, with what was `found` before, and with `sections`."""
    distances = None
    if made.samples is not None:
        theirs = real.training_distances(real.extractor.features(made.samples))
        distances = dict(zip(DISTANCES, (real.own_distances, theirs), strict=True))
    size, encodings = record["model"]["codebook_size"], made.encodings.columns
    seed = record["protocol"]["seed"]
    measured = measure(real, made.reconstructions, made.samples, seed, encodings, size, distances)
    columns = {**measured.columns, **encodings}
    complete = {**record, **measured.record, **(sections or {}), "notes": [*found.notes, *measured.notes]}
    complete["metrics"] |= {name: estimate.as_dict() for name, estimate in found.estimates.items()}
    complete["metrics"] = dict(sorted(complete["metrics"].items()))
    images = made.reconstructions, made.samples
    return Evaluation(complete, real.images, real.labels, *images, seeds, real.others, real.extractor, columns)


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
