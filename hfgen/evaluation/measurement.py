"""Held-out images, reconstructions, samples -> every number of the record. No model is needed: images suffice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.evaluation.pair_metrics import linear_metrics, pair_metrics
from hfgen.evaluation.real_images import RealImages
from hfgen.evaluation.set_metrics import baseline, few_for_modes, fill_of_bins, named, set_metrics
from hfgen.metrics import Estimate

DISTANCES = ("training_distance_original", "training_distance_sample")
"""Columns of the dataset: the distance of a held-out image and of a sample to the nearest training image."""


@dataclass(frozen=True)
class Measured:
    """The record's `metrics`, `baseline` and `spectrum`, and per-image numbers (n,) by column of the dataset.

    `notes`: those of the real images, then what was left out and why.
    """

    record: dict[str, Any]
    columns: dict[str, Tensor]
    notes: list[str]


def measure(
    real: RealImages,
    reconstructions: Tensor | None,
    samples: Tensor | None,
    seed: int,
    encodings: dict[str, Tensor] | None = None,
    codebook_size: int | None = None,
    distances: dict[str, Tensor] | None = None,
    *,
    draws: bool = False,
) -> Measured:
    """Measure uint8 images that anything may have made.

    A metric that isn't defined on these images is left out, with a note.

    Args:
        real: The held-out images.
        reconstructions: Theirs, in their order, or None.
        samples: Generated images, or None.
        seed: Of all resampling.
        encodings: What an encoder said of the held-out images: `posterior_mean` (n, ...) and `rate_bits` (n,), or
            `codes` (n, L) of `codebook_size`.
        codebook_size: How many codes there are.
        distances: To the nearest training image (n,), of the held-out images and of the samples, by the names of
            `DISTANCES`; without them, whether samples are copies isn't measured.

        draws: Whether reconstructions are drawn given the latent, as a flow's: principal components aren't, so that
            nothing follows from theirs.

    Raises:
        UserError: images of another size or of other channels than the held-out ones.
    """
    for name, images in (("reconstructions", reconstructions), ("samples", samples)):
        if images is not None:
            _check_alike(real.images, images, name)
    found, columns = metrics.Collector(), dict[str, Tensor]()
    bands, known = {"real": _band_means(real.spectrum)}, _baseline(real, reconstructions, samples)
    if samples is not None:
        spectrum, features = metrics.power_spectrum(samples, real.window), real.extractor.features(samples)
        bands["sample"] = _band_means(spectrum)
        set_metrics(found, real, samples, spectrum, features, seed)
        fill_of_bins(found, real, features, seed)
        if "modes_seen" in found.estimates:
            found.note(few_for_modes(real, len(samples)))
        if distances is not None:
            own, theirs = (distances[name] for name in DISTANCES)
            found.add("training_distance", lambda: metrics.copying(own, theirs, seed=seed))
            columns.update(distances)
    if reconstructions is not None:
        pairs = pair_metrics(found, real, reconstructions, seed)
        columns.update(pairs.columns)
        bands.update(pairs.bands)
    said = encodings or {}
    _encoding_metrics(found, said, codebook_size, seed)
    if "psnr" in columns and "posterior_mean" in said and not draws:
        numbers = said["posterior_mean"][0].numel()
        found.add("psnr_linear, hf_ratio_linear", lambda: linear_metrics(found, real, columns["psnr"], numbers, seed))
    record = {
        "metrics": _as_json(found.estimates),
        "baseline": _as_json(known.estimates),
        "spectrum": {"frequencies": real.spectrum.frequencies.tolist(), **bands},
    }
    try:
        record["judge_power"] = real.judge_power.as_dict()
    except UserError as error:
        found.notes.append(f"judge_power: left out ({str(error).partition(';')[0]})")
    return Measured(record, columns, [*real.notes, *known.notes, *found.notes])


def _baseline(real: RealImages, reconstructions: Tensor | None, samples: Tensor | None) -> metrics.Collector:
    """Other real images, measured as what was made is."""
    if samples is None:
        return metrics.Collector() if reconstructions is None else baseline(real, distances_only=True)
    found = baseline(real)
    if reconstructions is None:
        return found
    both = metrics.Collector()
    again = {f"{name}_reconstruction": found.estimates[name] for name in ("kid", "fd") if name in found.estimates}
    both.estimates, both.notes = {**found.estimates, **again}, found.notes
    return both


def _check_alike(real: Tensor, images: Tensor, name: str) -> None:
    """Refuse images (M, C, H, W) that can't be compared with the real ones, whatever the metric would make of them.

    Raises:
        UserError: other channels or another size.
    """
    if images.shape[1:] != real.shape[1:]:
        theirs, ours = (" x ".join(map(str, shape)) for shape in (images.shape[1:], real.shape[1:]))
        raise UserError(f"{name}: channels x height x width {theirs}, but {ours} of the real images; convert one")


def _as_json(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.as_dict() for name, estimate in sorted(estimates.items())}


def _encoding_metrics(
    found: metrics.Collector, encodings: dict[str, Tensor], codebook_size: int | None, seed: int
) -> None:
    if "rate_bits" in encodings:
        found.add("rate_bits", lambda: metrics.bootstrap_mean(encodings["rate_bits"], seed=seed))
    if "posterior_mean" in encodings:
        found.add("active_units", lambda: metrics.active_units_interval(encodings["posterior_mean"]))
    if "codes" in encodings:
        assert codebook_size is not None, "codes come from a codebook"
        use = partial(metrics.codebook_use, encodings["codes"], codebook_size)
        names = ("codebook_perplexity", "codebook_usage")
        found.add(", ".join(names), lambda: named(names, use()))


def _band_means(spectrum: metrics.PowerSpectrum) -> list[float]:
    return spectrum.bands.mean(0).tolist()
