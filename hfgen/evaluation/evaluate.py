"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data_options import SmallImages
from hfgen.devices import Compute
from hfgen.documents import RECORD
from hfgen.errors import SettingsError, UserError
from hfgen.evaluation.held_out import HeldOut, choose_n, held_out_images
from hfgen.evaluation.latent import centres, changed_latents, latent_section, scale_notes
from hfgen.evaluation.measurement import DISTANCES, measure
from hfgen.evaluation.passes import Made, batch_size, make, reconstruct
from hfgen.evaluation.precision import precision_section
from hfgen.evaluation.reading_test import reading_test
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.evaluation.result import Evaluation, check_out, save_evaluation
from hfgen.evaluation.workspace import workspace
from hfgen.files import folder_state
from hfgen.hub.downloads import commit_of
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of, seams_of
from hfgen.pipelines.given import compute_for, given_id, is_given, lent, weights_state
from hfgen.pipelines.loading import open_model
from hfgen.seeds import derive_seed

_SEAM_IMAGES = 4
"""Of tiled models: as many go through whole as well."""
_LIBRARIES = ("hfgen", "torch", "diffusers", "transformers", "datasets", "scipy")

logger = logging.getLogger("hfgen")


def evaluate(
    model: Any,
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
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples; by default all, up to 2000.

    `model` is whatever `hfgen.load` opens, or a loaded autoencoder of diffusers, a pipeline that has one, or a pipeline
    of hfgen: measured where and in what numbers it is, and left as it was.

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
    out = None if out is None else Path(out)
    compute = compute_for(model, device, dtype)
    choose_n(data, split, n, extractor=extractor, config_name=config_name)
    settings: dict[str, Any] = {"resolution": resolution, "tile": tile, "steps": steps}
    with _opened(model, compute, variant, settings) as (pipeline, origin), metrics.measuring(compute):
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
        facts: dict[str, Any] = {
            "id": given_id(model),
            "revision": origin.revision,
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
        with workspace(out, {**record, "weights": origin.state}) as partial_results:
            made_of = make(pipeline, real.inputs, seeds, partial_results)
            found = metrics.Collector()
            if made_of.samples is None:
                found.note(f"samples: a model of family {pipeline.family} draws none")
            sections = _look(pipeline, real, made_of, seed, found)
            evaluation = finish(record, real, made_of, seeds, found, sections)
            if out is not None:
                save_evaluation(evaluation, out)
        return evaluation


class _Origin(NamedTuple):
    """What pins a model: its commit, or None, and a hash of its weights' place, or of the weights."""

    revision: str | None
    state: str


@contextlib.contextmanager
def _opened(
    model: Any, compute: Compute, variant: str | None, settings: dict[str, Any]
) -> Iterator[tuple[ImagePipeline, _Origin]]:
    """A MODEL where it is to be computed, or a given one where it is.

    Raises:
        UserError: it can't be opened.
    """
    if is_given(model):
        if variant is not None:
            raise SettingsError(f"variant: {variant!r} is of files, and the model is loaded already; leave it out")
        with lent(model, **settings) as pipeline:
            yield pipeline, _Origin(None, weights_state(model))
        return
    pipeline, folder = open_model(model, variant=variant, **settings)
    pipeline.set_progress_bar_config(disable=True)
    yield compute.place(pipeline), _Origin(commit_of(folder), folder_state(folder))


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
    judge, names = real.extractor, real.store.label_names
    return Evaluation(complete, real.images, real.labels, *images, seeds, real.others, judge, columns, names)
