"""What is measured of a study's cells: numbers of one cell, and effects of one cell over another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hfgen.metrics import Estimate, bootstrap_mean, clustered
from hfgen.reporting.numbers import number
from hfgen.studies.cells import Trained
from hfgen.studies.verdicts import Arms

_NORMAL_95 = 1.96


class Measured(NamedTuple):
    """A cell from one seed, and its metrics."""

    metrics: Mapping[str, Estimate]
    trained: Trained


Results = Mapping[str, Sequence[Measured]]
"""By the cell's label, once a seed."""


class Undefined(Exception):
    """A number that a collapsed model, say, hasn't."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """Where an effect comes from: the labels of its cells, and its arms."""

    cells: tuple[str, ...]
    arms: Callable[[Results], Arms]


def value(cell: str, metric: str, beyond: float | str = 0.0) -> Effect:
    """A metric of a cell beyond a constant, or beyond another metric of the same models."""

    def arms(results: Results) -> Arms:
        found, others = _metric(results, cell, metric), [Estimate(0.0, 0.0, 0.0, 0)] * len(results[cell])
        if isinstance(beyond, str):
            others = _metric(results, cell, beyond)
        elif beyond:
            others = [Estimate(beyond, beyond, beyond, 0)] * len(found)
        values = [first.value - second.value for first, second in zip(found, others, strict=True)]
        return Arms((values,), _shared(found) + _shared(others))

    return Effect((cell,), arms)


def difference(first: str, second: str, metric: str, of_second: str = "") -> Effect:
    """A metric of the first cell and that of the second, or its `of_second`; the images' errors add up."""

    def arms(results: Results) -> Arms:
        pair = _metric(results, first, metric), _metric(results, second, of_second or metric)
        return Arms(tuple(_values(found) for found in pair), sum(map(_shared, pair)))

    return Effect((first, second), arms)


def log_ratio(first: str, second: str, metric: str) -> Effect:
    """The logarithms of a metric, which is above 0, of two cells."""

    def arms(results: Results) -> Arms:
        pair = [[_logarithm(found) for found in _metric(results, cell, metric)] for cell in (first, second)]
        return Arms(tuple(_values(found) for found in pair), sum(map(_shared, pair)))

    return Effect((first, second), arms)


def psnr_difference(first: str, second: str) -> Effect:
    """The PSNR of two cells on the same images; their joint error is that of the differences image by image."""
    return by_image(first, second, "psnr", lambda a, b: bootstrap_mean(a.psnr - b.psnr, seed=0))


def power_difference(first: str, second: str) -> Effect:
    """The high-frequency power of two cells' reconstructions of the same images, with their joint error."""
    return by_image(
        first, second, "hf_ratio_reconstruction", lambda a, b: a.gained(a.reconstructions, b.reconstructions)
    )


def by_image(first: str, second: str, metric: str, joint: Callable[[Trained, Trained], Estimate]) -> Effect:
    """A metric of two cells on the same images; `joint` gives their difference, with the images' error, of a pair."""

    def arms(results: Results) -> Arms:
        pair = [_metric(results, cell, metric) for cell in (first, second)]
        # Each seed of one with the same of the other: any pairs would do, since the images are the same.
        together = zip(results[first], results[second], strict=False)
        differences = [joint(a.trained, b.trained) for a, b in together]
        return Arms(tuple(_values(found) for found in pair), _shared(differences))

    return Effect((first, second), arms)


def _metric(results: Results, cell: str, metric: str) -> list[Estimate]:
    if any(metric not in measured.metrics for measured in results[cell]):
        raise Undefined(f"{metric} isn't defined for {cell}; its record.json says why")
    return [measured.metrics[metric] for measured in results[cell]]


def _values(found: Sequence[Estimate]) -> list[float]:
    return [estimate.value for estimate in found]


def _shared(found: Sequence[Estimate]) -> float:
    """The mean variance by the images, of which no more than that is shared by all seeds."""
    return sum(((one.high - one.low) / (2 * _NORMAL_95)) ** 2 for one in found) / len(found)


def _logarithm(found: Estimate) -> Estimate:
    if found.low <= 0:
        raise Undefined(f"a logarithm of {found.value:g} [{found.low:g}, {found.high:g}] isn't defined")
    return Estimate(math.log(found.value), math.log(found.low), math.log(found.high), found.n)


def subtracted(a: Estimate, b: Estimate) -> Estimate:
    """The difference of two estimates with independent errors."""
    reach = math.hypot(a.high - a.low, b.high - b.low) / 2
    return Estimate(a.value - b.value, a.value - b.value - reach, a.value - b.value + reach, min(a.n, b.n))


class Finding(NamedTuple):
    """A number over all seeds, or None where it isn't defined.

    The interval, of 95 %, is None where one seed can't give it.
    """

    value: float | None
    low: float | None
    high: float | None
    seeds: int


def over_seeds(estimates: Sequence[Estimate]) -> Finding:
    """One number of models that were trained alike from different seeds."""
    if len(estimates) == 1:
        return Finding(estimates[0].value, None, None, 1)
    joined = clustered(estimates)
    return Finding(joined.value, joined.low, joined.high, len(estimates))


def in_words(finding: Mapping[str, Any]) -> str:
    """`0.43 [0.41, 0.46]`, or without an interval where there is one seed only."""
    if finding["value"] is None:
        return "not defined"
    if finding["low"] is None:
        return f"{finding['value']:.2g} (one seed)"
    return number(Estimate(finding["value"], finding["low"], finding["high"], 0))
