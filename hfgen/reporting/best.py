"""Which model is the best by a metric, and which can't be told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hfgen.metrics import Estimate
from hfgen.reporting.glossary import METRICS
from hfgen.reporting.numbers import overlap

Pairs = list[dict[str, Any]]


def best(metric: str, estimates: Mapping[str, Estimate], pairs: Pairs | None = None) -> list[str]:
    """The best model's name, then those that tie with it; none where the metric has no better direction.

    A tie: the `pairs`' interval of the difference holds 0, where such were measured and more or less is better; else
    the two intervals overlap.
    """
    target = METRICS[metric].target if metric in METRICS else None
    if target is None or not estimates:
        return []
    gaps = {name: distance_from(target, estimate) for name, estimate in estimates.items()}
    first = min(gaps, key=lambda name: gaps[name].value)
    return [first, *tied_with(first, gaps, pairs if math.isinf(target) else None)]


def distance_from(target: float, estimate: Estimate) -> Estimate:
    """How far from the best possible value: lower is better.

    Of a ratio, whose target is 1, |log ratio|: twice as much is as far from real as half of it. A target may be
    infinite: then the values themselves, turned round where more is better.
    """
    ends = (estimate.value, estimate.low, estimate.high)
    if math.isinf(target):
        value, low, high = ends if target < 0 else (-ends[0], -ends[2], -ends[1])
        return Estimate(value, low, high, estimate.n)
    value, low, high = (abs(math.log(max(end, 1e-12)) if target == 1 else end - target) for end in ends)
    nearest = 0.0 if estimate.low <= target <= estimate.high else min(low, high)
    return Estimate(value, nearest, max(low, high), estimate.n)


def tied_with(first: str, estimates: Mapping[str, Estimate], pairs: Pairs | None) -> list[str]:
    """Those whose difference from `first` is a tie; where no differences were measured, whose intervals overlap."""
    others = [name for name in estimates if name != first]
    if pairs is None:
        return [name for name in others if overlap(estimates[name], estimates[first])]
    ties = [{pair["first"], pair["second"]} for pair in pairs if pair["tie"]]
    return [name for name in others if {name, first} in ties]
