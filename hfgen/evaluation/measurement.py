"""Held-out images, reconstructions, samples -> every number of the record. No model is needed: images suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.metrics import Estimate
from hfgen.metrics.checks import check_finite

NEIGHBOURS = 5
DISTANCES = ("training_distance_original", "training_distance_sample")
"""Columns of the dataset: the distance of a held-out image and of a sample to the nearest training image."""

_MOST_BINS, _IMAGES_PER_BIN = 100, 10
_MS_SSIM_SIDE = 176
# About eight times as many images go through it.
_LOOKS_OF_A_HEAVY_JUDGE = 500


@dataclass(frozen=True)
class RealImages:
    """What everything is compared with.

    Attributes:
        images: Held-out images, uint8 (n, C, R, R).
        labels: Their classes (n,), or None.
        others: Training images, at most n: the baseline.
        extractor: The judge.
        features: Of `images`; float64 (n, D).
        other_features: Of `others`.
        spectrum: Of `images`; its window is for all images that are compared with them.
        sharpness: Of `images`, (n,) by name.
        recogniser: Of the known classes; None where there are none.
        baseline: `others` compared with `images`, as samples are.
        notes: What was converted or guessed of the data, and what the baseline lacks; a line each.
        seed: Of all resampling.
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
    recogniser: metrics.Recogniser | None = field(default=None, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    @cached_property
    def judge_power(self) -> metrics.JudgePower:
        """The smallest blur and noise that the judge detects here; measured when it is first asked for."""
        others = self.others if self.extractor.is_light else self.others[:_LOOKS_OF_A_HEAVY_JUDGE]
        return metrics.judge_power(self.extractor, self.features[: len(others)], others, seed=self.seed, k=NEIGHBOURS)

    @property
    def window(self) -> metrics.Window:
        """That of all spectra."""
        return self.spectrum.window


@dataclass(frozen=True)
class Measured:
    """The record's `metrics`, `baseline` and `spectrum`, and per-image numbers (n,) by column of the dataset.

    `notes`: those of the real images, then what was left out and why.
    """

    record: dict[str, Any]
    columns: dict[str, Tensor]
    notes: list[str]


def real_images(
    images: Tensor, others: Tensor, labels: Tensor | None, extractor: metrics.Extractor, seed: int
) -> RealImages:
    """Describe the held-out images, and compare the others with them.

    Raises:
        UserError: the extractor's features are non-finite, or the images are too small for a spectrum.
    """
    facts: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "others": others,
        "extractor": extractor,
        "features": extractor.features(images),
        "other_features": extractor.features(others),
        "spectrum": metrics.power_spectrum(images, metrics.spectral_window(images)),
        "sharpness": metrics.sharpness(images),
    }
    check_finite(facts["features"], f"extractor: features of {extractor.id}")
    if extractor.mode_counts is not None:
        facts["recogniser"] = metrics.recogniser(extractor, images)
    found = metrics.Collector("baseline: ")
    spectrum = metrics.power_spectrum(others, facts["spectrum"].window)
    _set_metrics(found, RealImages(**facts, baseline={}), others, spectrum, facts["other_features"], seed)
    return RealImages(**facts, baseline=found.estimates, notes=found.notes, seed=seed)


def measure(
    real: RealImages,
    reconstructions: Tensor | None,
    samples: Tensor | None,
    seed: int,
    encodings: dict[str, Tensor] | None = None,
    codebook_size: int | None = None,
    distances: dict[str, Tensor] | None = None,
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

    Raises:
        UserError: images of another size or of other channels than the held-out ones.
    """
    for name, images in (("reconstructions", reconstructions), ("samples", samples)):
        if images is not None:
            _check_alike(real.images, images, name)
    found, columns = metrics.Collector(), dict[str, Tensor]()
    bands = {"real": _band_means(real.spectrum)}
    if samples is not None:
        spectrum, features = metrics.power_spectrum(samples, real.window), real.extractor.features(samples)
        bands["sample"] = _band_means(spectrum)
        _set_metrics(found, real, samples, spectrum, features, seed)
        if "modes_seen" in found.estimates:
            found.note(_few_for_modes(real, len(samples)))
        if distances is not None:
            own, theirs = (distances[name] for name in DISTANCES)
            found.add("training_distance", lambda: metrics.copying(own, theirs, seed=seed))
            columns.update(distances)
    if reconstructions is not None:
        spectrum = metrics.power_spectrum(reconstructions, real.window)
        bands["reconstruction"] = _band_means(spectrum)
        columns.update(_reconstruction_metrics(found, real, reconstructions, spectrum, seed))
        bands.update(_bands(found, real, reconstructions, seed))
    said = encodings or {}
    _encoding_metrics(found, said, codebook_size, seed)
    if "psnr" in columns and "posterior_mean" in said:
        numbers = said["posterior_mean"][0].numel()
        found.add("psnr_linear, hf_ratio_linear", lambda: _linear(found, real, columns["psnr"], numbers, seed))
    record = {
        "metrics": _as_json(found.estimates),
        "baseline": _as_json(real.baseline),
        "spectrum": {"frequencies": real.spectrum.frequencies.tolist(), **bands},
    }
    try:
        record["judge_power"] = real.judge_power.as_dict()
    except UserError as error:
        found.notes.append(f"judge_power: left out ({str(error).partition(';')[0]})")
    return Measured(record, columns, [*real.notes, *found.notes])


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


def _set_metrics(
    found: metrics.Collector,
    real: RealImages,
    images: Tensor,
    spectrum: metrics.PowerSpectrum,
    features: Tensor,
    seed: int,
) -> None:
    """How far a set of images is from the real ones, which it isn't paired with."""
    found.add("kid", lambda: metrics.kernel_distance_interval(real.features, features))
    found.add("fd", lambda: metrics.frechet_distance_interval(real.features, features, seed=seed))
    power = spectrum.high, real.spectrum.high
    found.add("hf_ratio_sample", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=False))
    found.add("spectral_distance", lambda: metrics.spectral_distance(real.spectrum, spectrum))
    found.add("two_sample", lambda: metrics.two_sample_test(real.features, features, seed=seed))
    shares = "precision, recall, density, coverage"
    found.add(shares, lambda: metrics.prdc_intervals(real.features, features, NEIGHBOURS, seed=seed))
    _sharpness_ratios(found, real, images, "sample", seed)
    bins = min(_MOST_BINS, len(real.features) // _IMAGES_PER_BIN)
    if bins >= 2:
        found.add("ndb", lambda: _named(("ndb", "ndb_jsd"), metrics.ndb(real.features, features, bins, seed=seed)))
    found.add("two_sample_pixels", lambda: _told_apart_by_pixels(real, images, seed))
    if real.recogniser is not None:
        found.add("modes", lambda: _modes(real, images))


def _told_apart_by_pixels(real: RealImages, images: Tensor, seed: int) -> Estimate:
    return metrics.two_sample_test_of_pixels(real.images, images, real.window, seed=seed)


def _few_for_modes(real: RealImages, count: int) -> str:
    shares = real.extractor.mode_counts
    assert shares is not None, "only of known classes"
    chance = metrics.expected_distinct(shares / shares.sum(), count)
    return (
        f"modes: {count} images are fewer than 26 for each of {len(shares)} modes, so modes_seen counts those that "
        f"they hit; of real images, as many would hit {chance:.0f}"
    )


def _modes(real: RealImages, images: Tensor) -> dict[str, Estimate]:
    """Under a name of its own where the images are too few to hit every mode."""
    counts = real.extractor.mode_counts
    assert counts is not None and real.recogniser is not None, "only of known classes"
    classes = real.recogniser.classes(images)
    use, kinds = metrics.modes_intervals(counts, classes), len(counts)
    if metrics.enough_for_modes(len(images), kinds):
        return {"modes": use.hit, "modes_rejected": use.rejected} | ({"modes_kl": use.kl} if use.kl else {})
    return {"modes_seen": use.hit, "modes_rejected": use.rejected}


def _named(names: tuple[str, ...], estimates: tuple[Estimate, ...]) -> dict[str, Estimate]:
    return dict(zip(names, estimates, strict=True))


def _reconstruction_metrics(
    found: metrics.Collector, real: RealImages, images: Tensor, spectrum: metrics.PowerSpectrum, seed: int
) -> dict[str, Tensor]:
    """What pairs tell; returns the numbers of each pair."""
    scores: dict[str, Callable[[], Tensor]] = {
        "psnr": lambda: metrics.capped_psnr(real.images, images),
        "ssim": lambda: metrics.ssim(real.images, images, 255),
        "perceptual": lambda: metrics.perceptual_distance(real.features, real.extractor.features(images)),
    }
    if images.shape[-1] >= _MS_SSIM_SIDE:
        scores["ms_ssim"] = lambda: metrics.ms_ssim(real.images, images, 255)
    columns: dict[str, Tensor] = {}

    def mean(name: str) -> Estimate:
        columns[name] = scores[name]().double()
        return metrics.bootstrap_mean(columns[name], seed=seed)

    for name in scores:
        found.add(name, partial(mean, name))
    power = spectrum.high, real.spectrum.high
    found.add("hf_ratio_reconstruction", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=True))
    found.add(
        "spectral_distance_reconstruction", lambda: metrics.spectral_distance(real.spectrum, spectrum, paired=True)
    )
    _sharpness_ratios(found, real, images, "reconstruction", seed)
    return columns


def _bands(found: metrics.Collector, real: RealImages, images: Tensor, seed: int) -> dict[str, list[float]]:
    """Whether reconstructions are means of what the latent leaves open; returns the gain and coherence of each ring."""
    measures = metrics.band_measures(real.images, images, real.window)

    def high() -> dict[str, Estimate]:
        band = measures.estimates(seed=seed)["high"]
        return {"gain_high": band.gain, "coherence_high": band.coherence}

    found.add("gain_high, coherence_high", high)
    found.add("averaging_identity", lambda: measures.averaging_identity().estimates(seed=seed)["high"])
    if "gain_high" not in found.estimates:
        return {}
    rings = measures.ring_estimates(seed=seed)
    return {name: [getattr(ring, name).value for ring in rings] for name in ("gain", "coherence")}


def _linear(found: metrics.Collector, real: RealImages, psnr: Tensor, numbers: int, seed: int) -> dict[str, Estimate]:
    """What so many principal components of training images do; a note where the autoencoder does less."""
    metrics.check_components(real.others, numbers)
    images = metrics.linear_reconstructions(real.others, real.images, numbers, seed)
    power = metrics.power_spectrum(images, real.window).high
    scores = metrics.capped_psnr(real.images, images).double()
    if (gap := metrics.bootstrap_mean(psnr - scores, seed=seed)).high < 0:
        found.note(
            f"under-trained: its reconstructions are {-gap.value:.2f} dB below those of {numbers} principal components "
            "of training images, which need as many numbers; its blur says nothing about its latent"
        )
    return {
        "psnr_linear": metrics.bootstrap_mean(scores, seed=seed),
        "hf_ratio_linear": metrics.bootstrap_ratio(power, real.spectrum.high, seed=seed, paired=True),
    }


def _sharpness_ratios(found: metrics.Collector, real: RealImages, images: Tensor, kind: str, seed: int) -> None:
    paired = kind == "reconstruction"
    for name, values in metrics.sharpness(images).items():
        pair = values, real.sharpness[name]
        ratio = partial(metrics.bootstrap_ratio, *pair, seed=seed, paired=paired)
        found.add(f"{name}_ratio_{kind}", ratio)


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
        found.add(", ".join(names), lambda: _named(names, use()))


def _band_means(spectrum: metrics.PowerSpectrum) -> list[float]:
    return spectrum.bands.mean(0).tolist()
