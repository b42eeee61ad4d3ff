"""Held-out images, reconstructions, samples -> every number of the record. No model is needed: images suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import ImageStore, batch_indices, open_store
from hfgen.errors import UserError
from hfgen.evaluation.workspace import gather
from hfgen.metrics import Estimate

NEIGHBOURS = 5
_MOST_BINS, _IMAGES_PER_BIN = 100, 10
_MS_SSIM_SIDE = 176
_PIXELS = 2**22


@dataclass(frozen=True)
class RealImages:
    """What everything is held against.

    Attributes:
        images: Held-out images, uint8 (n, C, R, R).
        labels: Their classes (n,), or None.
        others: Training images, at most n: the baseline, and what memorisation is measured from.
        extractor: The judge.
        features: Of `images`; float64 (n, D).
        other_features: Of `others`.
        spectrum: Of `images`.
        sharpness: Of `images`, (n,) by name.
        baseline: `others` held against `images`, as samples are.
    """

    images: Tensor
    labels: Tensor | None
    others: Tensor
    extractor: metrics.Extractor
    features: Tensor
    other_features: Tensor
    spectrum: metrics.PowerSpectrum
    sharpness: dict[str, Tensor]
    baseline: dict[str, Estimate]


@dataclass(frozen=True)
class HeldOut(RealImages):
    """Those of a store; `inputs` are the images with their conditions, if any."""

    store: ImageStore
    inputs: Tensor


@dataclass(frozen=True)
class Measured:
    """The record's `metrics`, `baseline` and `spectrum`, and per-image numbers (n,) by column of the dataset."""

    record: dict[str, Any]
    columns: dict[str, Tensor]


def real_images(
    images: Tensor, others: Tensor, labels: Tensor | None, extractor: metrics.Extractor, seed: int
) -> RealImages:
    """Describe the held-out images, and hold the others against them."""
    facts: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "others": others,
        "extractor": extractor,
        "features": extractor.features(images),
        "other_features": extractor.features(others),
        "spectrum": metrics.power_spectrum(images),
        "sharpness": metrics.sharpness(images),
    }
    real = RealImages(**facts, baseline={})
    return RealImages(**facts, baseline=_set_metrics(real, others, real.other_features, seed))


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
    extractor: str = "embedded",
) -> HeldOut:
    """`n` images of a split, chosen by `seed`, and as many of the train split beside them.

    Raises:
        UserError: the data or the extractor can't be had, or the split has fewer than `n` images.
    """
    settings: dict[str, Any] = {
        "resolution": resolution,
        "channels": channels,
        "small_images": small_images,
        "skip_damaged": skip_damaged,
        "condition": condition,
    }
    store = open_store(data, split=split, **settings)
    training = store if split == "train" else open_store(data, split="train", **settings)
    least, most = 2 * (NEIGHBOURS + 1), len(store)
    if not least <= n <= most:
        raise UserError(f"n: {n} images asked of the {most} in {data}, split {split}; give {least} to {most}")
    judge = _extractor(extractor, training)
    chosen = batch_indices(len(store), 0, n, seed)
    # Where the training images themselves are measured, the others are those that follow.
    others = batch_indices(len(training), n if split == "train" else 0, min(n, len(training)), seed)
    inputs = gather(store.gather, chosen, store.images.shape[1:])
    images = inputs if inputs.shape[1] == store.channels else inputs[:, : store.channels].contiguous()
    other_images = gather(lambda rows: training.gather(rows)[:, : store.channels], others, images.shape[1:])
    labels = None if store.labels is None else store.labels[chosen]
    real = real_images(images, other_images, labels, judge, seed)
    return HeldOut(**vars(real), store=store, inputs=inputs)


def _extractor(name: str, training: ImageStore) -> metrics.Extractor:
    if name != "embedded":
        return metrics.named_extractor(name)
    return metrics.embedded_extractor(
        training.targets, training.labels, training.fingerprint, factors=training.label_factors
    )


def measure(
    real: RealImages,
    reconstructions: Tensor | None,
    samples: Tensor,
    seed: int,
    encodings: dict[str, Tensor] | None = None,
    codebook_size: int | None = None,
) -> Measured:
    """Measure uint8 images that anything may have made.

    Args:
        real: The held-out images.
        reconstructions: Theirs, in their order, or None.
        samples: Generated images.
        seed: Of all resampling.
        encodings: What an encoder said of the held-out images: `posterior_mean` (n, ...) and `rate_bits` (n,), or
            `codes` (n, L) of `codebook_size`.
        codebook_size: How many codes there are.
    """
    bands = {"real": _band_means(real.spectrum), "sample": _band_means(metrics.power_spectrum(samples))}
    features = real.extractor.features(samples)
    estimates = _set_metrics(real, samples, features, seed)
    estimates["memorisation"] = metrics.memorisation(real.other_features, real.features, features, seed=seed)
    columns: dict[str, Tensor] = {}
    if reconstructions is not None:
        found, columns = _reconstruction_metrics(real, reconstructions, seed)
        estimates.update(found)
        bands["reconstruction"] = _band_means(metrics.power_spectrum(reconstructions))
    estimates.update(_encoding_metrics(encodings or {}, codebook_size, seed))
    record = {
        "metrics": {name: estimate.as_dict() for name, estimate in sorted(estimates.items())},
        "baseline": {name: estimate.as_dict() for name, estimate in sorted(real.baseline.items())},
        "spectrum": {"frequencies": real.spectrum.frequencies.tolist(), **bands},
    }
    return Measured(record, columns)


def _set_metrics(real: RealImages, images: Tensor, features: Tensor, seed: int) -> dict[str, Estimate]:
    """How far a set of images is from the real ones, which it isn't paired with."""
    spectrum = metrics.power_spectrum(images)
    estimates = {
        "kid": metrics.kernel_distance_interval(real.features, features),
        "fd": metrics.frechet_distance_interval(real.features, features, seed=seed),
        "hf_ratio_sample": metrics.bootstrap_ratio(spectrum.high, real.spectrum.high, seed=seed, paired=False),
        "spectral_distance": metrics.spectral_distance(real.spectrum, spectrum),
        "two_sample": metrics.two_sample_test(real.features, features, seed=seed),
        **metrics.prdc_intervals(real.features, features, NEIGHBOURS, seed=seed),
        **_sharpness_ratios(real, images, "sample", seed),
    }
    bins = min(_MOST_BINS, len(real.features) // _IMAGES_PER_BIN)
    if bins >= 2:
        estimates["ndb"], estimates["ndb_jsd"] = metrics.ndb(real.features, features, bins, seed=seed)
    counts = real.extractor.mode_counts
    if counts is not None:
        hit, divergence = metrics.modes_intervals(counts, real.extractor.modes(images), seed=seed)
        estimates |= {"modes": hit, "modes_kl": divergence}
    return estimates


def _reconstruction_metrics(
    real: RealImages, reconstructions: Tensor, seed: int
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """What pairs tell, and the numbers of each pair."""
    spectrum = metrics.power_spectrum(reconstructions)
    identity = metrics.averaging_identity(real.images, reconstructions)
    columns = {
        "psnr": _pair_by_pair(metrics.capped_psnr, real.images, reconstructions),
        "ssim": _pair_by_pair(lambda x, y: metrics.ssim(x, y, 255), real.images, reconstructions),
        "perceptual": metrics.perceptual_distance(real.features, real.extractor.features(reconstructions)),
    }
    if reconstructions.shape[-1] >= _MS_SSIM_SIDE:
        columns["ms_ssim"] = _pair_by_pair(lambda x, y: metrics.ms_ssim(x, y, 255), real.images, reconstructions)
    columns = {name: values.double() for name, values in columns.items()}
    estimates = {name: metrics.bootstrap_mean(values, seed=seed) for name, values in columns.items()}
    estimates |= {
        "hf_ratio_reconstruction": metrics.bootstrap_ratio(spectrum.high, real.spectrum.high, seed=seed, paired=True),
        "averaging_identity": identity.estimates(seed=seed)["high"],
        "spectral_distance_reconstruction": metrics.spectral_distance(real.spectrum, spectrum, paired=True),
        **_sharpness_ratios(real, reconstructions, "reconstruction", seed),
    }
    return estimates, columns


def _sharpness_ratios(real: RealImages, images: Tensor, kind: str, seed: int) -> dict[str, Estimate]:
    paired = kind == "reconstruction"
    return {
        f"{name}_ratio_{kind}": metrics.bootstrap_ratio(values, real.sharpness[name], seed=seed, paired=paired)
        for name, values in metrics.sharpness(images).items()
    }


def _encoding_metrics(encodings: dict[str, Tensor], codebook_size: int | None, seed: int) -> dict[str, Estimate]:
    estimates = {}
    if "rate_bits" in encodings:
        estimates["rate_bits"] = metrics.bootstrap_mean(encodings["rate_bits"], seed=seed)
    if "posterior_mean" in encodings:
        estimates["active_units"] = metrics.active_units_interval(encodings["posterior_mean"])
    if "codes" in encodings:
        assert codebook_size is not None, "codes come from a codebook"
        use = metrics.codebook_use(encodings["codes"], codebook_size, seed=seed)
        estimates |= {"codebook_perplexity": use.perplexity, "codebook_usage": use.usage}
    return estimates


def _pair_by_pair(score: Callable[[Tensor, Tensor], Tensor], images: Tensor, others: Tensor) -> Tensor:
    """Per-image scores; both sets may be larger than the memory."""
    batch = max(1, _PIXELS // images[0].numel())
    return torch.cat([score(x, y) for x, y in zip(images.split(batch), others.split(batch), strict=True)])


def _band_means(spectrum: metrics.PowerSpectrum) -> list[float]:
    return spectrum.bands.mean(0).tolist()
