"""What a study is: cells, measurements of them, and sentences, each with the one contrast that decides on it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hfgen.metrics import Estimate
from hfgen.studies.cells import Cell, Trained
from hfgen.studies.effects import Effect, Results, Undefined, in_words, value
from hfgen.studies.verdicts import Currency, Side, corrected, decide, effect_of, holm

logger = logging.getLogger("hfgen")

CRISP = 0.85
"""The least power, over that of real images, of an adversarial arm whose sentences are tested."""

_LEAST_P = 1e-16


class Contrast(NamedTuple):
    """The effect that decides on a sentence.

    Attributes:
        what: The effect in words.
        effect: Where its numbers come from.
        currency: What it is counted in, and the least that counts.
        side: Where the sentence says that it lies.
        second: The same by the second judge, where the number is a judge's. Its verdict stands beside the first's.
    """

    what: str
    effect: Effect
    currency: Currency
    side: Side
    second: Effect | None = None

    @property
    def rule(self) -> str:
        """In words, and what else may come out."""
        least = f"{self.currency.least:.3g}"
        within = f"the 90 % interval within -{least} and {least}"
        ends = {"above": f"above {least}", "below": f"below -{least}"}
        if self.side == "within":
            supported, opposite = within, f"the 95 % interval {ends['above']} or {ends['below']}"
        else:
            other = "below" if self.side == "above" else "above"
            supported, opposite = f"the 95 % interval {ends[self.side]}", f"{ends[other]}; negligible: {within}"
        return (
            f"The contrast is {self.what}. Supported: {supported}; opposite: {opposite}; else, or with a p-value that "
            "isn't below .05 after Holm's correction: undecided"
        )


class Check(NamedTuple):
    """A number without which a sentence isn't tested: it has to be at least `least`, as the mean over seeds."""

    what: str
    effect: Effect
    least: float


def crisp(cell: str, metric: str = "hf_ratio_sample") -> Check:
    """That an adversary does make images crisp, without which nothing follows from what else it does."""
    return Check(f"the power of {cell}", value(cell, metric), CRISP)


def above_linear(cell: str) -> Check:
    """That an autoencoder is trained enough for its latent to be blamed."""
    return Check(f"the dB of {cell} beyond as many principal components", value(cell, "psnr", "psnr_linear"), 0.0)


class Beside(NamedTuple):
    """A number that is told beside a sentence and decides nothing."""

    what: str
    effect: Effect


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the question, in our words.

    Attributes:
        id: Its name within the study.
        says: The sentence.
        contrast: What decides on it.
        checks: What has to hold for it to be tested.
        beside: What is told beside it.
    """

    id: str
    says: str
    contrast: Contrast
    checks: tuple[Check, ...] = ()
    beside: tuple[Beside, ...] = ()

    @property
    def deciding(self) -> set[str]:
        """The labels of the cells that decide on it."""
        seconds = [] if self.contrast.second is None else [self.contrast.second]
        effects = [self.contrast.effect, *seconds, *(check.effect for check in self.checks)]
        return {label for effect in effects for label in effect.cells}

    @property
    def cells(self) -> set[str]:
        """The labels of all cells that it needs."""
        return self.deciding.union(*(one.effect.cells for one in self.beside))

    @property
    def rule(self) -> str:
        """How it is decided, in words."""
        checks = "".join(f" Not tested: {check.what} is below {check.least:g}." for check in self.checks)
        return f"{self.contrast.rule}.{checks}"

    def decide(self, results: Results) -> dict[str, Any]:
        """Its numbers and its verdict before the correction for many sentences, as JSON values."""
        contrast, currency = self.contrast, self.contrast.currency
        checks = [_checked(check, results) for check in self.checks]
        found = _decided(contrast, contrast.effect, results)
        # From one seed a check says as little as the effect.
        if min(found["seeds"], default=2) > 1 and not all(check["passed"] for check in checks):
            found["verdict"] = "not tested"
        second = None if contrast.second is None else _decided(contrast, contrast.second, results)
        facts = {
            "id": self.id,
            "claim": self.says,
            "rule": self.rule,
            "what": contrast.what,
            "currency": currency.name,
            "least": currency.least,
            "side": contrast.side,
            **found,
            "uncorrected": found["verdict"],
            "checks": checks,
            "beside": [{"what": one.what, **_interval(one.effect, results)} for one in self.beside],
        }
        if second is None:
            return facts
        disagree = {found["verdict"], second["verdict"]} == {"supported", "opposite"}
        return {**facts, "second_judge": second, **({"judges_disagree": True} if disagree else {})}


def _decided(contrast: Contrast, effect: Effect, results: Results) -> dict[str, Any]:
    """An effect with its tests, and its verdict; None where a number isn't defined."""
    try:
        arms = effect.arms(results)
    except Undefined as error:
        logger.warning("%s: %s", contrast.what, error)
        return {"effect": None, "test": "none", "seeds": [], "verdict": "undecided"}
    found = effect_of(arms, contrast.currency.least)
    return {
        "effect": {**found._asdict(), "p": found.p},
        "test": "Welch's t" if len(arms.values) == 2 else "Student's t",
        "seeds": [len(arm) for arm in arms.values],
        "verdict": decide(found, contrast.currency.least, contrast.side),
    }


def _checked(check: Check, results: Results) -> dict[str, Any]:
    """A number that isn't defined fails."""
    found = _interval(check.effect, results)
    passed = found["value"] is not None and found["value"] >= check.least
    return {"what": check.what, "least": check.least, "passed": passed, **found}


def _interval(effect: Effect, results: Results) -> dict[str, Any]:
    try:
        found = effect_of(effect.arms(results), 1.0)
    except Undefined as error:
        logger.warning("%s", error)
        return {"value": None, "low": None, "high": None}
    return {"value": found.value, "low": found.low, "high": found.high}


def correct(claims: Iterable[dict[str, Any]], sentences: int) -> None:
    """Add Holm's p-values to decided sentences, of `sentences` that were named before the run, and decide by them.

    Sentences that aren't there, aren't tested or have one seed count as well, so that one row that is run again alone
    is judged no more mildly than the whole table.
    """
    tested = list(claims)
    p_values = [
        claim["effect"]["p"] if claim["effect"] and claim["uncorrected"] != "not tested" else None for claim in tested
    ]
    for claim, p_holm in zip(tested, holm([*p_values, *[None] * (sentences - len(tested))]), strict=False):
        claim["p_holm"] = p_holm
        claim["verdict"] = corrected(claim["uncorrected"], p_holm)


def told(claim: Mapping[str, Any]) -> str:
    """A decided sentence's numbers in one line."""
    parts = [f"{claim['what']}: {_by_both(claim)}"]
    effect = claim["effect"]
    if effect and effect["p"] is not None:
        parts.append(f"least {claim['least']:.3g}, p {p_value(effect['p'])}, after Holm {p_value(claim['p_holm'])}")
    parts += [
        f"{check['what']} is {in_words(check)}, below {check['least']:g}"
        for check in claim["checks"]
        if not check["passed"]
    ]
    if claim.get("judges_disagree"):
        parts.append("the two judges disagree")
    return "; ".join(parts)


def p_value(value: float | None) -> str:
    """In words; so far out in its tail no distribution is trusted, and a float may be 0."""
    if value is None:
        return "-"
    return f"below {_LEAST_P:g}" if value < _LEAST_P else f"{value:.2g}"


def _by_both(claim: Mapping[str, Any]) -> str:
    """The effect, and the second judge's beside it."""
    first, second = claim["effect"], claim.get("second_judge")
    words = in_words(first or {"value": None})
    return (
        words if second is None else f"{words}, by pixels and spectra {in_words(second['effect'] or {'value': None})}"
    )


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
        claims: Sentences and what decides on them.
        panels: Its figure.
        again: By label, other cells of the panels' ticks, which stand beside each panel's first series.
        measure: What else is measured of a trained cell, beyond its record.
    """

    name: str
    question: str
    variable: str
    metric: str
    cells: Mapping[str, Cell]
    claims: tuple[Claim, ...]
    panels: tuple[Panel, ...]
    again: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    measure: Callable[[Trained], dict[str, Estimate]] | None = None

    @property
    def charts(self) -> tuple[Panel, ...]:
        """The panels with what stands beside their first series."""
        return tuple(panel._replace(series=(*panel.series, *self._beside(panel.series[0]))) for panel in self.panels)

    def _beside(self, series: Series) -> list[Series]:
        return [Series(f"{series.label}, {label}", series.metric, cells) for label, cells in self.again.items()]

    @property
    def deciding(self) -> set[str]:
        """The labels of the cells that decide on a sentence, and of those that they begin with."""
        return self._with_starts({label for claim in self.claims for label in claim.deciding})

    def needed(self, ids: Sequence[str]) -> set[str]:
        """The labels of the cells that these sentences need; none: all of the study's."""
        if not ids:
            return set(self.cells)
        return self._with_starts({label for claim in self.claims if claim.id in ids for label in claim.cells})

    def _with_starts(self, labels: set[str]) -> set[str]:
        starts = [self.cells[label].start for label in labels]
        return labels | {label for label, cell in self.cells.items() if cell in starts}
