"""Two models on the same images: how far apart they are, with 95 % intervals, and where reconstructions stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations
from typing import Any

from torch import Tensor

from hfgen import metrics
from hfgen.evaluation.run import Evaluation
from hfgen.metrics import Estimate


@dataclasses.dataclass(frozen=True)
class Features:
    """What one extractor sees: (n, D) of the held-out images, and by model of what it made of them or drew."""

    real: Tensor
    samples: dict[str, Tensor]
    reconstructions: dict[str, Tensor]


def features_of(evaluations: dict[str, Evaluation]) -> Features | None:
    """In the features of the evaluations' extractor; None where they came without it."""
    shared = next(iter(evaluations.values()))
    extractor = shared.extractor
    if extractor is None:
        return None
    return Features(
        real=extractor.features(shared.originals),
        samples={name: extractor.features(evaluation.samples) for name, evaluation in evaluations.items()},
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


def psnr_by_image(evaluations: dict[str, Evaluation]) -> dict[str, Tensor]:
    """Each reconstruction's PSNR in dB, (n,) by model; finite."""
    return {
        name: metrics.capped_psnr(evaluations[name].originals, images)
        for name, images in reconstructed(evaluations).items()
    }


def differences(evaluations: dict[str, Evaluation], features: Features | None) -> dict[str, list[dict[str, Any]]]:
    """By metric, for each pair of models that have it: `first`, `second`, `difference` (of first - second), `tie`.

    What is measured image by image is paired, which cancels what makes an image hard for every model. What is
    measured of a set is held against the same real images; see `hfgen.metrics.dependent`. A tie's interval contains
    0. Metrics in an extractor's features are left out without `features`.
    """
    shared = next(iter(evaluations.values()))
    seed, k = shared.record["protocol"]["seed"], shared.record["protocol"]["neighbours"]
    images, names = reconstructed(evaluations), list(evaluations)
    real = metrics.power_spectrum(shared.originals).high
    sampled = {name: metrics.power_spectrum(evaluation.samples).high for name, evaluation in evaluations.items()}
    kept = {name: metrics.power_spectrum(reconstructions).high for name, reconstructions in images.items()}
    ssim = {name: metrics.ssim(shared.originals, reconstructions, 255) for name, reconstructions in images.items()}
    result = {
        "psnr": _pairs(list(images), _mean_difference(psnr_by_image(evaluations), seed)),
        "ssim": _pairs(list(images), _mean_difference(ssim, seed)),
        "hf_ratio_reconstruction": _pairs(
            list(images),
            lambda first, second: metrics.bootstrap_ratio(kept[first] - kept[second], real, seed=seed, paired=True),
        ),
        "hf_ratio_sample": _pairs(
            names, lambda first, second: metrics.ratio_difference(sampled[first], sampled[second], real)
        ),
    }
    if features is not None:
        seen = features.samples
        perceptual = {
            name: metrics.perceptual_distance(features.real, made) for name, made in features.reconstructions.items()
        }
        result["perceptual"] = _pairs(list(images), _mean_difference(perceptual, seed))
        result["kid"] = _pairs(
            names,
            lambda first, second: metrics.kernel_distance_difference(features.real, seen[first], seen[second]),
        )
        result["coverage"] = _pairs(
            names,
            lambda first, second: metrics.coverage_difference(features.real, seen[first], seen[second], k, seed=seed),
        )
    return result


def _mean_difference(scores: dict[str, Tensor], seed: int) -> Callable[[str, str], Estimate]:
    return lambda first, second: metrics.bootstrap_mean(scores[first] - scores[second], seed=seed)


def _pairs(names: list[str], difference: Callable[[str, str], Estimate]) -> list[dict[str, Any]]:
    pairs = []
    for first, second in combinations(names, 2):
        estimate = difference(first, second)
        tie = estimate.low <= 0 <= estimate.high
        pairs.append({"first": first, "second": second, "difference": estimate.as_dict(), "tie": tie})
    return pairs


def perception_distortion(evaluations: dict[str, Evaluation], features: Features | None) -> dict[str, dict[str, Any]]:
    """By model that reconstructs: `mse` in units of white squared, and `kid` of its reconstructions.

    The axes of Blau & Michaeli (2018): how far a reconstruction is from its original, and how far all of them
    together are from real images. Empty without `features`.
    """
    if features is None:
        return {}
    shared = next(iter(evaluations.values()))
    seed = shared.record["protocol"]["seed"]
    plane = {}
    for name, images in reconstructed(evaluations).items():
        error = metrics.bootstrap_mean(metrics.mse(shared.originals, images) / 255**2, seed=seed)
        kid = metrics.paired_kernel_distance(features.real, features.reconstructions[name])
        plane[name] = {"mse": error.as_dict(), "kid": kid.as_dict()}
    return plane
