"""A second judge beside the first: the same images, seen by another kind, and where the two order models otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.comparison.differences import drawn, set_differences
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import Evaluation
from hfgen.metrics import Estimate

BY_PIXELS = "_pixels"
"""Ends the names of what the second judge says: `kid_pixels` is its `kid`."""

_METRICS = ("kid", "coverage")


def second_judge(
    evaluations: dict[str, Evaluation], device: torch.device, found: metrics.Collector
) -> dict[str, Any] | None:
    """What `metrics.pixel_judge` says of the samples, as JSON values; None where nothing draws, or it is the first.

    `extractor` (its facts), `power`, `baseline` (other real images), `models` and `differences`, each by metric:
    `kid_pixels` and `coverage_pixels`. Statistics are scaled by those of the training images that an evaluation keeps,
    so that a finished one is judged as a new one is. What isn't defined is left out, and noted in `found`.
    """
    shared, samples = next(iter(evaluations.values())), drawn(evaluations)
    if not samples:
        return None
    if shared.record["protocol"]["extractor"]["id"].startswith(metrics.PIXEL_JUDGE):
        found.note("none, since the first judge is that of pixels; --extractor embedded has both")
        return None
    others = shared.others
    if others is None:
        found.note("none, since the evaluation keeps no training images; evaluate again")
        return None
    try:
        judge = metrics.pixel_judge(others).to(device)
    except UserError as error:
        found.note(f"left out ({str(error).partition(';')[0]})")
        return None
    seed, k = shared.record["protocol"]["seed"], shared.record["protocol"]["neighbours"]
    real = judge.features(shared.originals)
    seen = {name: judge.features(images) for name, images in samples.items()}
    differences = set_differences(real, seen, seed, k, found)
    return {
        "extractor": judge.facts(),
        "power": metrics.judge_power(judge, real, others, seed=seed, k=k).as_dict(),
        "baseline": _set_metrics(real, judge.features(others), seed, k, "baseline", found),
        "models": {name: _set_metrics(real, features, seed, k, name, found) for name, features in seen.items()},
        "differences": {metric + BY_PIXELS: pairs for metric, pairs in differences.items()},
    }


def _set_metrics(
    real: Tensor, features: Tensor, seed: int, k: int, name: str, found: metrics.Collector
) -> dict[str, Any]:
    measures: dict[str, Callable[[], Estimate]] = {
        "kid": partial(metrics.kernel_distance_interval, real, features),
        "coverage": lambda: metrics.prdc_intervals(real, features, k, seed=seed)["coverage"],
    }
    estimates = {metric: found.attempt(f"{metric} of {name}", measures[metric]) for metric in _METRICS}
    return {metric + BY_PIXELS: estimate.as_dict() for metric, estimate in estimates.items() if estimate is not None}


def disagreements(differences: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Pairs of models that the two judges order otherwise, both beyond the interval of their difference.

    `metric`, `first`, `second`, and by each judge the `difference` of first - second: `by_first` and `by_second`.
    """
    found = []
    for metric in _METRICS:
        theirs = {(pair["first"], pair["second"]): pair for pair in differences.get(metric + BY_PIXELS, [])}
        for pair in differences.get(metric, []):
            names = {"first": pair["first"], "second": pair["second"]}
            other = theirs.get((pair["first"], pair["second"]))
            if other is None or pair["tie"] or other["tie"]:
                continue
            ours, second = pair["difference"], other["difference"]
            if (ours["value"] > 0) != (second["value"] > 0):
                found.append({"metric": metric, **names, "by_first": ours, "by_second": second})
    return found
