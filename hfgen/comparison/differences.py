"""Two models on the same images: how far apart they are, with 95 % intervals; and perception and distortion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.evaluation.evaluate import Evaluation
from hfgen.metrics import Estimate


@dataclasses.dataclass(frozen=True)
class Features:
    """What one extractor sees: (n, D) of the held-out images, and by model of what it made of them or drew."""

    real: Tensor
    samples: dict[str, Tensor]
    reconstructions: dict[str, Tensor]


def features_of(evaluations: dict[str, Evaluation], device: torch.device | None = None) -> Features | None:
    """In the features of the evaluations' extractor, computed on `device`; None where they came without it."""
    shared = next(iter(evaluations.values()))
    if shared.extractor is None:
        return None
    extractor = shared.extractor.to(device or torch.device("cpu"))
    return Features(
        real=extractor.features(shared.originals),
        samples={name: extractor.features(samples) for name, samples in drawn(evaluations).items()},
        reconstructions={
            name: extractor.features(reconstructions) for name, reconstructions in reconstructed(evaluations).items()
        },
    )


def reconstructed(evaluations: dict[str, Evaluation]) -> dict[str, Tensor]:
    """The reconstructions of the models that have any, by model."""
    return {
        name: evaluation.reconstructions
        for name, evaluation in evaluations.items()
        if evaluation.reconstructions is not None
    }


def drawn(evaluations: dict[str, Evaluation]) -> dict[str, Tensor]:
    """The samples of the models that draw any, by model."""
    return {name: evaluation.samples for name, evaluation in evaluations.items() if evaluation.samples is not None}


def psnr_by_image(evaluations: dict[str, Evaluation]) -> dict[str, Tensor]:
    """Each reconstruction's PSNR in dB, (n,) by model; finite."""
    return {
        name: metrics.capped_psnr(evaluations[name].originals, images)
        for name, images in reconstructed(evaluations).items()
    }


def differences(
    evaluations: dict[str, Evaluation], features: Features | None, found: metrics.Collector
) -> dict[str, list[dict[str, Any]]]:
    """By metric, for each pair of models that have it: `first`, `second`, `difference` (of first - second), `tie`.

    What is measured image by image is paired, which cancels what makes an image hard for every model. What is
    measured of a set is compared with the same real images; see `hfgen.metrics.dependent`. A tie's interval contains
    0. Metrics in an extractor's features are left out without `features`; what isn't defined is left out too, and
    noted in `found`.
    """
    shared = next(iter(evaluations.values()))
    seed, k = shared.record["protocol"]["seed"], shared.record["protocol"]["neighbours"]
    images, samples = reconstructed(evaluations), drawn(evaluations)
    window = shared.record["protocol"]["window"]
    real = metrics.power_spectrum(shared.originals, window).high
    sampled = {name: metrics.power_spectrum(made, window).high for name, made in samples.items()}
    kept = {name: metrics.power_spectrum(made, window).high for name, made in images.items()}
    psnr = psnr_by_image(evaluations)
    ssim = {name: metrics.ssim(shared.originals, made, 255) for name, made in images.items()}

    def ratio(first: str, second: str) -> Estimate:
        return metrics.bootstrap_ratio(kept[first] - kept[second], real, seed=seed, paired=True)

    result = {
        "psnr": _pairs("psnr", images, _mean_difference(psnr.__getitem__, seed), found),
        "ssim": _pairs("ssim", images, _mean_difference(ssim.__getitem__, seed), found),
        "hf_ratio_reconstruction": _pairs("hf_ratio_reconstruction", images, ratio, found),
        "hf_ratio_sample": _pairs(
            "hf_ratio_sample",
            samples,
            lambda first, second: metrics.ratio_difference(sampled[first], sampled[second], real),
            found,
        ),
    }
    if features is not None:
        result |= _in_features(features, seed, k, found)
    return result


def _in_features(features: Features, seed: int, k: int, found: metrics.Collector) -> dict[str, list[dict[str, Any]]]:
    real = features.real

    @cache
    def perceptual(name: str) -> Tensor:
        return metrics.perceptual_distance(real, features.reconstructions[name])

    pairs = _pairs("perceptual", features.reconstructions, _mean_difference(perceptual, seed), found)
    return {"perceptual": pairs, **set_differences(real, features.samples, seed, k, found)}


def set_differences(
    real: Tensor, seen: dict[str, Tensor], seed: int, k: int, found: metrics.Collector
) -> dict[str, list[dict[str, Any]]]:
    """`differences` of what one judge's features say of samples: of real images (n, D), and (n, D) by model."""
    return {
        "kid": _pairs(
            "kid",
            seen,
            lambda first, second: metrics.kernel_distance_difference(real, seen[first], seen[second]),
            found,
        ),
        "coverage": _pairs(
            "coverage",
            seen,
            lambda first, second: metrics.coverage_difference(real, seen[first], seen[second], k, seed=seed),
            found,
        ),
    }


def _mean_difference(scores: Callable[[str], Tensor], seed: int) -> Callable[[str, str], Estimate]:
    return lambda first, second: metrics.bootstrap_mean(scores(first) - scores(second), seed=seed)


def _pairs(
    metric: str, models: Iterable[str], difference: Callable[[str, str], Estimate], found: metrics.Collector
) -> list[dict[str, Any]]:
    pairs = []
    for first, second in combinations(models, 2):
        estimate = found.attempt(f"{metric} of {first} - {second}", partial(difference, first, second))
        if estimate is not None:
            tie = estimate.low <= 0 <= estimate.high
            pairs.append({"first": first, "second": second, "difference": estimate.as_dict(), "tie": tie})
    return pairs


def perception_distortion(
    evaluations: dict[str, Evaluation], features: Features | None, found: metrics.Collector
) -> dict[str, dict[str, Any]]:
    """By model that reconstructs: `mse` in units of white squared, and `kid` of its reconstructions.

    The axes of Blau & Michaeli (2018): how far a reconstruction is from its original, and how far all of them
    together are from real images. Empty without `features`; what isn't defined is left out, and noted in `found`.
    """
    if features is None:
        return {}
    shared = next(iter(evaluations.values()))
    seed, real = shared.record["protocol"]["seed"], features.real
    plane = {}
    for name, images in reconstructed(evaluations).items():
        errors, seen = metrics.mse(shared.originals, images) / 255**2, features.reconstructions[name]
        axes = {
            "mse": found.attempt(f"error of {name}", partial(metrics.bootstrap_mean, errors, seed=seed)),
            "kid": found.attempt(
                f"KID of {name}'s reconstructions", partial(metrics.paired_kernel_distance, real, seen)
            ),
        }
        point = {axis: estimate.as_dict() for axis, estimate in axes.items() if estimate is not None}
        if len(point) == len(axes):
            plane[name] = point
    return plane
