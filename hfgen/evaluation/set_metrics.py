"""A set of images against the held-out ones, which it isn't paired with: samples, and other real images."""

from __future__ import annotations

from functools import lru_cache, partial

from torch import Tensor

from hfgen import metrics
from hfgen.evaluation.real_images import NEIGHBOURS, RealImages
from hfgen.metrics import Estimate

_MOST_BINS, _IMAGES_PER_BIN = 100, 10


@lru_cache(maxsize=2)
def baseline(real: RealImages, *, distances_only: bool = False) -> metrics.Collector:
    """`others` compared with `images`, as samples are; `distances_only`: what reconstructions are compared with."""
    found = metrics.Collector("baseline: ")
    if distances_only:
        found.add("kid_reconstruction", lambda: metrics.kernel_distance_interval(real.features, real.other_features))
        found.add("fd_reconstruction", lambda: _frechet(real, real.other_features, real.seed))
        return found
    spectrum = metrics.power_spectrum(real.others, real.window)
    set_metrics(found, real, real.others, spectrum, real.other_features, real.seed)
    # The first half of them are the bins'.
    fill_of_bins(found, real, real.other_features[len(real.others) // 2 :], real.seed)
    return found


def set_metrics(
    found: metrics.Collector,
    real: RealImages,
    images: Tensor | None,
    spectrum: metrics.PowerSpectrum,
    features: Tensor,
    seed: int,
) -> None:
    """How far a set of images is from the real ones, which it isn't paired with; without pixels, by the rest."""
    found.add("kid", lambda: metrics.kernel_distance_interval(real.features, features))
    found.add("fd", lambda: _frechet(real, features, seed))
    power = spectrum.high, real.spectrum.high
    found.add("hf_ratio_sample", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=False))
    found.add("spectral_distance", lambda: metrics.spectral_distance(real.spectrum, spectrum))
    found.add("two_sample", lambda: metrics.two_sample_test(real.features, features, seed=seed))
    shares = "precision, recall, density, coverage"
    found.add(shares, lambda: metrics.prdc_intervals(real.features, features, NEIGHBOURS, seed=seed))
    if images is None:
        return
    sharpness_ratios(found, real, images, "sample", seed)
    found.add("two_sample_pixels", lambda: _told_apart_by_pixels(real, images, seed))
    if real.recogniser is not None:
        found.add("modes", lambda: _modes(real, images))


def fill_of_bins(found: metrics.Collector, real: RealImages, features: Tensor, seed: int) -> None:
    """How unequally a set and the real images fill bins that are fitted to the first half of `others`."""
    fitted = real.other_features[: len(real.others) // 2]
    bins = min(_MOST_BINS, len(fitted) // _IMAGES_PER_BIN)
    if bins >= 2:
        names = ("ndb", "ndb_jsd")
        found.add("ndb", lambda: named(names, metrics.ndb(real.features, features, fitted, bins, seed=seed)))


def _frechet(real: RealImages, features: Tensor, seed: int) -> Estimate:
    return metrics.frechet_distance_interval(real.features, features, seed=seed)


def _told_apart_by_pixels(real: RealImages, images: Tensor, seed: int) -> Estimate:
    return metrics.two_sample_test_of_pixels(real.images, images, real.window, seed=seed)


def few_for_modes(real: RealImages, count: int) -> str:
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


def named(names: tuple[str, ...], estimates: tuple[Estimate, ...]) -> dict[str, Estimate]:
    return dict(zip(names, estimates, strict=True))


def sharpness_ratios(found: metrics.Collector, real: RealImages, images: Tensor, kind: str, seed: int) -> None:
    paired = kind == "reconstruction"
    for name, values in metrics.sharpness(images).items():
        pair = values, real.sharpness[name]
        ratio = partial(metrics.bootstrap_ratio, *pair, seed=seed, paired=paired)
        found.add(f"{name}_ratio_{kind}", ratio)
