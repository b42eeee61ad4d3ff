"""What a study is: cells, measurements of them, and sentences with the tests that decide on each."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from hfgen.metrics import Estimate, bootstrap_mean, clustered
from hfgen.reporting.numbers import number
from hfgen.studies.cells import Cell, Trained

Verdict = Literal["supported", "contradicted", "undecided"]


logger = logging.getLogger("hfgen")


class Measured(NamedTuple):
    """A cell from one seed, and its metrics."""

    metrics: Mapping[str, Estimate]
    trained: Trained


Results = Mapping[str, Sequence[Measured]]
"""By the cell's label, once a seed."""

Measure = Callable[[Results], list[Estimate]]
"""One number a seed."""


class Undefined(Exception):
    """A number that a collapsed model, say, hasn't."""


def value(cell: str, metric: str) -> Measure:
    """A metric of a cell."""

    def measure(results: Results) -> list[Estimate]:
        missing = [measured for measured in results[cell] if metric not in measured.metrics]
        if missing:
            raise Undefined(f"{metric} isn't defined for {cell}; its record.json says why")
        return [measured.metrics[metric] for measured in results[cell]]

    return measure


def difference(first: str, second: str, metric: str) -> Measure:
    """A metric of the first cell minus that of the second, seed by seed."""
    return minus(value(first, metric), value(second, metric))


def psnr_difference(first: str, second: str) -> Measure:
    """The PSNR of the first cell minus that of the second, image by image and seed by seed."""

    def measure(results: Results) -> list[Estimate]:
        pairs = zip(results[first], results[second], strict=True)
        return [bootstrap_mean(a.trained.psnr - b.trained.psnr, seed=0) for a, b in pairs]

    return measure


def minus(first: Measure, second: Measure) -> Measure:
    """The difference of two measures, seed by seed, as if their errors were independent."""

    def measure(results: Results) -> list[Estimate]:
        return [subtracted(a, b) for a, b in zip(first(results), second(results), strict=True)]

    return measure


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
    return number(Estimate(finding["value"], finding["low"], finding["high"], finding["seeds"]))


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A number that should lie on one side of a bound.

    Attributes:
        what: What is measured, in words.
        measure: The number, once a seed.
        above: The bound that it should lie above, or
        below: below.
        second: The same by the second judge, of pixels and spectra, where the number is a judge's. Its verdict stands
            beside the first's, which decides.
    """

    what: str
    measure: Measure
    above: float | None = None
    below: float | None = None
    second: Measure | None = None

    @property
    def rule(self) -> str:
        """The bound in words."""
        side, bound = ("above", self.above) if self.above is not None else ("below", self.below)
        return f"{self.what} is {side} {bound:g}"

    def finding(self, results: Results) -> Finding:
        """The number over all seeds."""
        return self._over_seeds(self.measure, results)

    def second_finding(self, results: Results) -> Finding | None:
        """The second judge's; None where there is none."""
        return None if self.second is None else self._over_seeds(self.second, results)

    def _over_seeds(self, measure: Measure, results: Results) -> Finding:
        try:
            return over_seeds(measure(results))
        except Undefined as error:
            logger.warning("%s: %s", self.what, error)
            return Finding(None, None, None, 0)

    def verdict(self, finding: Finding) -> Verdict:
        """Supported where the whole interval lies on the right side of the bound, contradicted on the wrong one."""
        if finding.low is None or finding.high is None:
            return "undecided"
        if self.above is not None:
            low, high, bound = finding.low, finding.high, self.above
        else:
            assert self.below is not None, "a test has a bound"
            low, high, bound = -finding.high, -finding.low, -self.below
        return "supported" if low > bound else "contradicted" if high < bound else "undecided"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the question, in our words, and the tests that it has to pass."""

    says: str
    tests: tuple[Criterion, ...]

    @property
    def rule(self) -> str:
        """The decision rule in words."""
        return (
            f"Supported if {', and '.join(test.rule for test in self.tests)}: the whole 95 % interval over seeds. "
            "Contradicted if the whole interval of one lies on the other side; else undecided."
        )

    def decide(self, results: Results) -> dict[str, Any]:
        """The verdict and the numbers that it rests on, as JSON values."""
        tests = [_decided(test, results) for test in self.tests]
        disagree = any(
            {test["verdict"], test["second_judge"]["verdict"]} == {"supported", "contradicted"}
            for test in tests
            if "second_judge" in test
        )
        verdict = _joined([test["verdict"] for test in tests])
        said = {"judges_disagree": True} if disagree else {}
        return {"claim": self.says, "rule": self.rule, "tests": tests, "verdict": verdict, **said}


def _decided(test: Criterion, results: Results) -> dict[str, Any]:
    """A test's number and verdict, and the second judge's."""
    finding, second = test.finding(results), test.second_finding(results)
    decided = {"what": test.what, "rule": test.rule, **finding._asdict(), "verdict": test.verdict(finding)}
    if second is not None:
        decided["second_judge"] = {**second._asdict(), "verdict": test.verdict(second)}
    return decided


def _joined(verdicts: Sequence[Verdict]) -> Verdict:
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if set(verdicts) == {"supported"} else "undecided"


class Series(NamedTuple):
    """A line of a panel: `metric` of the cell of each tick."""

    label: str
    metric: str
    cells: Mapping[str, str]


class Panel(NamedTuple):
    """A chart: what its height says, what its ticks are, and its lines; `reference`: where real images lie."""

    height: str
    ticks: str
    series: tuple[Series, ...]
    reference: float | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """An experiment.

    Attributes:
        name: Its file's.
        question: What it asks.
        variable: What differs between its cells.
        metric: What is measured of them.
        cells: The models by label.
        claims: Sentences and their tests.
        panels: Its figure.
        measure: What else is measured of a trained cell, beyond its record.
    """

    name: str
    question: str
    variable: str
    metric: str
    cells: Mapping[str, Cell]
    claims: tuple[Claim, ...]
    panels: tuple[Panel, ...]
    measure: Callable[[Trained], dict[str, Estimate]] | None = None
