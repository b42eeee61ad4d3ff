"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import Data, as_data, found_once
from hfgen.data_options import SmallImages
from hfgen.devices import Compute
from hfgen.documents import RECORD, versions
from hfgen.errors import SettingsError, UserError
from hfgen.evaluation.held_out import Choice, HeldOut, choose_n
from hfgen.evaluation.latent import centres, changed_latents, latent_section, scale_notes
from hfgen.evaluation.measurement import DISTANCES, measure
from hfgen.evaluation.passes import Made, batch_size, make, reconstruct, tasks
from hfgen.evaluation.precision import precision_section
from hfgen.evaluation.reading_test import reading_test
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.evaluation.result import Evaluation, check_out, save_evaluation, without_images
from hfgen.evaluation.shared_work import Processes, Task
from hfgen.evaluation.trained_on import leak_notes
from hfgen.evaluation.whole import check_whole, evaluate_whole, whole_task
from hfgen.evaluation.workspace import workspace
from hfgen.launch import process_count
from hfgen.outputs import given_folder
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of, seams_of
from hfgen.pipelines.given import (
    Origin,
    chosen_channels,
    compute_for,
    given_id,
    has_networks,
    model_facts,
    notes_of,
    opened,
    settle,
)
from hfgen.seeds import check_seed, derive_seed

_SEAM_IMAGES = 4
"""Of tiled models: as many go through whole as well."""

Ready = TypeVar("Ready")

logger = logging.getLogger("hfgen")


@found_once()
def evaluate(
    model: Any,
    data: Any,
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
    channels: int | Literal["auto"] = "auto",
    variant: str | None = None,
    tile: int | None = None,
    steps: int | None = None,
    crop: Literal["center", "none"] = "center",
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    shared: bool = False,
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples; by default all, up to 2000.

    `model` is whatever `hfgen.load` opens, or a loaded autoencoder of diffusers, a pipeline that has one, or a pipeline
    of hfgen: measured where and in what numbers it is, and left as it was. Or functions, and then `resolution` is
    needed: a pair (encode, decode), of which `encode` gives latents, (mean, log variance) or what diffusers' networks
    give; one that reconstructs; or by these names and `sample`, {"encode": f, "decode": g, "sample": h}. They get
    float32 images (B, C, R, R) in [-1, 1], without gradients, and return such, uint8 or PIL images; `sample` gets a
    number of images, and torch's own generators are seeded before. `channels` are 1 or 3, by default the data's: only
    functions leave a choice.

    `data` is DATA's address, or images, of which a tenth is held out where they aren't divided (`split="all"`: all are
    measured): see `hfgen.data.as_data`.

    Set metrics compare the samples with the held-out images in the features of `extractor`: `embedded`, a small
    classifier trained on the data's train split; `pixels`, statistics of pixels and spectra; `inception`; or an image
    network of transformers, a folder or `org/name[@revision]`. `baseline` compares as many training images with the
    held-out ones, and `judge_power` says which blur and noise of them the extractor detects. Interrupted, the same
    call continues with the images that `out` holds. `resolution`, `variant`, `tile` and `steps` are those of
    `hfgen.load`.

    With `crop="none"`, images keep their own shapes, padded to the model's factor by reflection and cut again, and
    pairs are measured one by one: what is returned has no features, and `out` gets whole.json instead of record.json.

    With `shared`, all processes of a launcher call this together and share the work: process 0 measures and writes, and
    the others return the same record, without images. Without it, a process measures by itself.

    What was converted, guessed or left out is a line each in the record's `notes`. `device` and `dtype` are those of
    `hfgen.devices.choose`; every random number is drawn on the CPU, so that a seed's images are the same on each
    device up to rounding.

    Raises:
        UserError: the model, the data or the extractor can't be loaded, the split has fewer than `n` images, `out` is
            taken, or the model gives NaN or infinity.
    """
    out, data = None if out is None else given_folder("out", out), as_data(data)
    if crop not in ("center", "none"):
        raise SettingsError(f"crop: {crop!r} is unknown; use center or none")
    processes = Processes() if shared and process_count() > 1 else None
    if processes is not None and str(device) != "auto":
        raise SettingsError(f"device: {device}, but the launcher gives each process its own; leave --device out")
    compute = compute_for(model, device if processes is None else processes.device, dtype)
    check_seed(seed)
    choice = Choice(split, n, seed, small_images, skip_damaged, image_column, label_column, config_name, extractor)

    @contextlib.contextmanager
    def ready() -> Iterator[tuple[ImagePipeline, Origin]]:
        if crop == "center" and (processes is None or processes.is_main):
            choose_n(data, split, n, extractor=extractor, config_name=config_name)
        with opened(model, compute, variant=variant, resolution=resolution, tile=tile, steps=steps) as found:
            yield found

    with _in_all(processes, ready()) as (pipeline, origin), metrics.measuring(compute):
        if crop == "none":
            check_whole(pipeline, given_id(model), choice, resolution)
        work = {**tasks(pipeline), **whole_task(pipeline)}
        if processes is not None and not processes.is_main:
            return without_images(processes.follow(work))
        with _leading(processes, work) as results:
            if crop == "none":
                whole = evaluate_whole(model, data, pipeline, origin, choice, compute, out, processes)
                results.append(whole.record)
                return whole
            wanted = chosen_channels(pipeline, channels, data)
            real = choice.images(data, pipeline.sample_size, wanted, pipeline.paired_with, compute.device)
            settle(pipeline, real.store.channels)
            found = _measured(model, data, pipeline, origin, real, compute, choice, out, processes)
            results.append(found.record)
        return found


@contextlib.contextmanager
def _in_all(processes: Processes | None, opening: contextlib.AbstractContextManager[Ready]) -> Iterator[Ready]:
    """A context that is entered in every process; where that fails in one, it fails in all.

    Raises:
        UserError: it does.
    """
    with contextlib.ExitStack() as held:
        failure = None
        try:
            found = held.enter_context(opening)
        except UserError as error:
            failure = error
        if processes is not None:
            processes.agree(failure)
        elif failure is not None:
            raise failure
        yield found


def _leading(processes: Processes | None, work: Mapping[str, Task]) -> contextlib.AbstractContextManager[list[Any]]:
    return contextlib.nullcontext([]) if processes is None else processes.leading(work)


def _measured(
    model: Any,
    data: Data,
    pipeline: ImagePipeline,
    origin: Origin,
    real: HeldOut,
    compute: Compute,
    choice: Choice,
    out: Path | None,
    processes: Processes | None,
) -> Evaluation:
    seed = choice.seed
    facts = model_facts(model, pipeline, origin)
    if pipeline.sampler is not None:
        facts["sampler"] = pipeline.sampler
    record = protocol_of(facts, real, data, seed, {**compute.facts(), "batch": batch_size(real.store.resolution)})
    check_out(out, record)
    if (seams := seams_of(pipeline, real.images[:_SEAM_IMAGES])) is not None:
        record["tiles"] = seams
    count = len(real.images)
    seeds = [derive_seed("sample", seed, index) for index in range(count)] if pipeline.can_sample else []
    with workspace(out, {**record, "weights": origin.state}) as partial_results:
        made = make(pipeline, real.inputs, seeds, partial_results, processes)
        found = metrics.Collector()
        found.notes += leak_notes(origin, data, real.store.split, choice._asdict(), real)
        if made.samples is None:
            found.note(f"samples: a model of family {pipeline.family} draws none")
        sections = _look(pipeline, real, made, seed, found)
        found.notes += notes_of(pipeline)
        told = seeds if has_networks(pipeline) else []
        evaluation = finish(record, real, made, told, found, sections)
        if out is not None:
            save_evaluation(evaluation, out)
    return evaluation


def protocol_of(model: dict[str, Any], real: HeldOut, data: Data, seed: int, made: dict[str, Any]) -> dict[str, Any]:
    """The record, without what is measured; `made`: device, dtype and batch of the model's images."""
    store = real.store
    return {
        "schema": RECORD.version,
        "model": model,
        "data": {
            "id": str(data),
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
            "versions": versions("transformers", "datasets", "scipy"),
            "threads": torch.get_num_threads(),
            **made,
        },
    }


def _look(pipeline: ImagePipeline, real: HeldOut, made: Made, seed: int, found: metrics.Collector) -> dict[str, Any]:
    """The record's `reading` and `latent`, which need the model once more, for a few images."""
    coder, latents = codec_of(pipeline), made.encodings.latents
    if latents is None:
        return {}
    posterior, size = (made.encodings.variances, made.encodings.log_variances), pipeline.codebook_size
    latent = latent_section(latents, *posterior, side=real.store.resolution, codebook_size=size, found=found)
    if coder is None:
        return {"latent": latent}
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
    changed = changed_latents(coder, real.images, latent["deviation"], device=pipeline.device, seed=seed, found=found)
    sections["latent"] = latent | changed
    if not pipeline.can_sample:
        pictures = centres(real.images, coder) if coder.any_size else real.images
        if coder.can_be_copied:
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
    draws = "sampler" in record["model"]
    measured = measure(real, made.reconstructions, made.samples, seed, encodings, size, distances, draws=draws)
    columns = {**measured.columns, **encodings}
    complete = {**record, **measured.record, **(sections or {}), "notes": [*found.notes, *measured.notes]}
    complete["metrics"] |= {name: estimate.as_dict() for name, estimate in found.estimates.items()}
    complete["metrics"] = dict(sorted(complete["metrics"].items()))
    images = made.reconstructions, made.samples
    judge, names = real.extractor, real.store.label_names
    return Evaluation(complete, real.images, real.labels, *images, seeds, real.others, judge, columns, names)
