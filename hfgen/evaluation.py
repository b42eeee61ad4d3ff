"""A pipeline and held-out images -> the record of its measurements, and the images as an evaluation dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from hfgen import metrics
from hfgen.bars import without_bars
from hfgen.data import ImageStore, batch_indices, open_store
from hfgen.errors import UserError
from hfgen.files import atomic_folder, read_json, write_json
from hfgen.images import to_float, to_pil, unit_to_uint8
from hfgen.metrics import Estimate
from hfgen.pipelines import ImagePipeline, load
from hfgen.pipelines.loading import resolve_folder
from hfgen.seeds import derive_seed

SCHEMA = 1
NEIGHBOURS = 5
_BATCH = 250
_LIBRARIES = ("hfgen", "torch", "diffusers", "transformers", "datasets", "scipy")


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
    """

    record: dict[str, Any]
    originals: Tensor
    labels: Tensor | None
    reconstructions: Tensor | None
    samples: Tensor
    seeds: list[int]


def evaluate(
    model: str | Path,
    data: str,
    *,
    split: str = "test",
    n: int = 2000,
    seed: int = 0,
    small_images: Literal["refuse", "pad", "upscale"] = "refuse",
    skip_damaged: bool = False,
    out: Path | None = None,
) -> Evaluation:
    """Measure a model on `n` held-out images, chosen by `seed`, and on `n` samples.

    Set metrics compare the samples with the held-out images in the features of a small classifier trained on
    the data's train split; `baseline` compares as many training images with the held-out ones.

    Raises:
        UserError: the model or the data can't be had, the split has fewer than `n` images, or `out` is taken.
    """
    folder = resolve_folder(model)
    pipeline = load(folder)
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
    )
    seeds = [derive_seed("sample", seed, index) for index in range(n)] if pipeline.can_sample else []
    reconstructions = reconstruct(pipeline, real.inputs) if pipeline.can_reconstruct else None
    samples = generate(pipeline, seeds) if pipeline.can_sample else reconstructions
    assert samples is not None, "a pipeline samples or reconstructs"
    record = {
        "schema": SCHEMA,
        "model": {
            "id": str(model),
            # The Hub's cache names a snapshot's folder after its commit.
            "revision": folder.name if folder.parent.name == "snapshots" else None,
            "family": pipeline.family,
            "parameters": pipeline.parameter_count,
        },
        "data": {
            "id": data,
            "revision": real.store.revision,
            "split": split,
            "n": n,
            "resolution": real.store.resolution,
            "fingerprint": real.store.fingerprint,
        },
        "protocol": {
            "seed": seed,
            "neighbours": NEIGHBOURS,
            "extractor": {name: getattr(real.extractor, name) for name in ("id", "sha256", "accuracy")},
            "versions": {name: version(name) for name in _LIBRARIES},
        },
        **measure(real, reconstructions, samples, seed),
    }
    evaluation = Evaluation(record, real.images, real.labels, reconstructions, samples, seeds)
    if out is not None:
        save_evaluation(evaluation, out, real.store)
    return evaluation


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What every model on the same data is held against; `inputs` are the images with their conditions, if any."""

    store: ImageStore
    inputs: Tensor
    images: Tensor
    labels: Tensor | None
    extractor: metrics.EmbeddedExtractor
    features: Tensor
    spectrum: metrics.PowerSpectrum
    baseline: dict[str, Estimate]


@lru_cache(maxsize=1)
def held_out_images(
    data: str,
    *,
    split: str = "test",
    n: int = 2000,
    seed: int = 0,
    resolution: int,
    channels: int,
    condition: tuple[str, int] | None = None,
    small_images: Literal["refuse", "pad", "upscale"] = "refuse",
    skip_damaged: bool = False,
) -> HeldOut:
    """The held-out images, their features, and the baseline: training images held against them."""
    settings: dict[str, Any] = {
        "resolution": resolution,
        "channels": channels,
        "small_images": small_images,
        "skip_damaged": skip_damaged,
        "condition": condition,
    }
    store = open_store(data, split=split, **settings)
    training = open_store(data, split="train", **settings)
    if not 2 * (NEIGHBOURS + 1) <= n <= len(store):
        least, most = 2 * (NEIGHBOURS + 1), len(store)
        raise UserError(f"n: {n} images asked of the {most} in {data}, split {split}; give {least} to {most}")
    chosen = batch_indices(len(store), 0, n, seed)
    inputs = store.images[chosen]
    images = inputs[:, : store.channels].contiguous()
    extractor = metrics.embedded_extractor(training.targets, training.labels, training.fingerprint)
    features, spectrum = extractor.features(images), metrics.power_spectrum(images)
    others = training.targets[batch_indices(len(training), 0, min(n, len(training)), seed)]
    baseline = _set_metrics(features, spectrum, others, extractor, seed)
    labels = None if store.labels is None else store.labels[chosen]
    return HeldOut(store, inputs, images, labels, extractor, features, spectrum, baseline)


def _batches(count: int, what: str) -> Iterator[slice]:
    for first in tqdm(range(0, count, _BATCH), desc=what, unit="batch", leave=False):
        yield slice(first, first + _BATCH)


def generate(pipeline: ImagePipeline, seeds: list[int]) -> Tensor:
    """One image a seed, whatever the batches: uint8 (n, C, R, R)."""
    images = []
    for part in _batches(len(seeds), "sampling"):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        output = pipeline(batch_size=len(generators), generator=generators, output_type="pt")
        images.append(unit_to_uint8(output.images))
    return torch.cat(images)


def reconstruct(pipeline: ImagePipeline, inputs: Tensor) -> Tensor:
    """Reconstructions of uint8 images (n, C, R, R), uint8 too."""
    parts = _batches(len(inputs), "reconstructing")
    outputs = (pipeline.reconstruct(to_float(inputs[part]), output_type="pt").images for part in parts)
    return torch.cat([unit_to_uint8(images) for images in outputs])


def measure(real: HeldOut, reconstructions: Tensor | None, samples: Tensor, seed: int) -> dict[str, Any]:
    """The record's `metrics`, `baseline` and `spectrum`, of uint8 images that anything may have made."""
    bands = {"real": _band_means(real.spectrum), "sample": _band_means(metrics.power_spectrum(samples))}
    estimates = _set_metrics(real.features, real.spectrum, samples, real.extractor, seed)
    if reconstructions is not None:
        estimates.update(_reconstruction_metrics(real.images, reconstructions, seed))
        bands["reconstruction"] = _band_means(metrics.power_spectrum(reconstructions))
    return {
        "metrics": {name: estimate.as_dict() for name, estimate in sorted(estimates.items())},
        "baseline": {name: estimate.as_dict() for name, estimate in sorted(real.baseline.items())},
        "spectrum": {"frequencies": real.spectrum.frequencies.tolist(), **bands},
    }


def _set_metrics(
    real_features: Tensor,
    real_spectrum: metrics.PowerSpectrum,
    images: Tensor,
    extractor: metrics.EmbeddedExtractor,
    seed: int,
) -> dict[str, Estimate]:
    """How far a set of images is from the real ones, which it isn't paired with."""
    features, high = extractor.features(images), metrics.power_spectrum(images).high
    return {
        "kid": metrics.kernel_distance_interval(real_features, features),
        "fd": metrics.frechet_distance_interval(real_features, features, seed=seed),
        "hf_ratio_sample": metrics.bootstrap_ratio(high, real_spectrum.high, seed=seed, paired=False),
        **metrics.prdc_intervals(real_features, features, NEIGHBOURS, seed=seed),
    }


def _reconstruction_metrics(originals: Tensor, reconstructions: Tensor, seed: int) -> dict[str, Estimate]:
    real, reconstructed = metrics.power_spectrum(originals), metrics.power_spectrum(reconstructions)
    identity = metrics.averaging_identity(originals, reconstructions)
    return {
        "psnr": metrics.bootstrap_mean(metrics.capped_psnr(originals, reconstructions), seed=seed),
        "ssim": metrics.bootstrap_mean(metrics.ssim(originals, reconstructions, 255), seed=seed),
        "hf_ratio_reconstruction": metrics.bootstrap_ratio(reconstructed.high, real.high, seed=seed, paired=True),
        "averaging_identity": metrics.bootstrap_ratio(
            identity.missing.high, identity.error.high, seed=seed, paired=True
        ),
    }


def _band_means(spectrum: metrics.PowerSpectrum) -> list[float]:
    return spectrum.bands.mean(0).tolist()


def save_evaluation(evaluation: Evaluation, out: Path, store: ImageStore) -> None:
    """Write `out`/record.json and `out`/dataset/, which `load_dataset` reads.

    Raises:
        UserError: `out` holds the record of another model or other data.
    """
    path = out / "record.json"
    if path.exists():
        before, now = read_json(path), evaluation.record
        for field in ("model", "data"):
            if before.get(field, {}).get("id") != now[field]["id"]:
                was = before.get(field, {}).get("id")
                raise UserError(f"out: {out} holds the record of another {field} ({was}); choose another --out")
    columns: dict[str, Any] = {"original": to_pil(evaluation.originals)}
    if evaluation.reconstructions is not None:
        columns["reconstruction"] = to_pil(evaluation.reconstructions)
    columns["sample"] = to_pil(evaluation.samples)
    if evaluation.seeds:
        columns["seed"] = evaluation.seeds
    if evaluation.labels is not None:
        columns["label"] = evaluation.labels.tolist()
    write_dataset(columns, out / "dataset", store.label_names)
    write_json(path, evaluation.record)


def write_dataset(columns: dict[str, Any], folder: Path, label_names: list[str] | None = None) -> None:
    """Write columns, some of PIL images, as parquet with PNG pixels; `load_dataset(folder)` reads them."""
    import datasets
    from PIL import Image

    features: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values[0], Image.Image):
            features[name] = datasets.Image()
        elif name == "label" and label_names is not None and min(values) >= 0:
            features[name] = datasets.ClassLabel(names=label_names)
        else:
            features[name] = datasets.Value("int64" if isinstance(values[0], int) else "float64")
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    with atomic_folder(folder) as temporary, without_bars("datasets"):
        table.to_parquet(temporary / "test-00000-of-00001.parquet")
