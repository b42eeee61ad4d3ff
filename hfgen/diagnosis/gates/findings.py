"""What a gate says: one number with its interval, held against a threshold, and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from hfgen.metrics import Estimate

Severity = Literal["fault", "warning", "passed", "undecided"]

_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Finding:
    """One check of a gate.

    Attributes:
        name: What is wrong where it isn't passed, as the ranking calls it.
        measured: The number; the larger, the worse.
        what: What it is, with its unit.
        threshold: Above which it is a fault, or a warning.
        severity: `fault` or `warning` where the whole interval lies above, `passed` where it lies below the lowest
            threshold, else `undecided`.
        text: What it means, one sentence.
        remedy: What to do: a command or an action.
        share: Of what is wrong with the images, how much this is, where that is defined; see `of`.
        of: What `share` is a part of.
    """

    name: str
    measured: Estimate
    what: str
    threshold: float
    severity: Severity
    text: str
    remedy: str
    share: float | None = None
    of: str = ""

    @property
    def confidence(self) -> float:
        """Chance that the number lies above the threshold, by the normal distribution of the interval's width."""
        error = (self.measured.value - self.measured.low) / _NORMAL_95
        distance = self.measured.value - self.threshold
        if error <= 0:
            return 1.0 if distance > 0 else 0.0
        return 0.5 * (1 + math.erf(distance / error / math.sqrt(2)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "severity": self.severity,
            "measured": self.measured.as_dict(),
            "what": self.what,
            "threshold": self.threshold,
            "confidence": round(self.confidence, 4),
            "share": self.share,
            "of": self.of,
            "text": self.text,
            "remedy": self.remedy,
        }


def check(
    name: str,
    measured: Estimate,
    what: str,
    *,
    text: str,
    remedy: str,
    warning: float,
    fault: float = math.inf,
    share: float | None = None,
    of: str = "",
    telling: bool = True,
) -> Finding:
    """The finding of a number that is a `fault` above one threshold and a `warning` above a lower one.

    Where it isn't `telling`, since something else may be behind the number, it is neither.
    """
    severity: Severity = "undecided"
    if measured.high <= warning:
        severity = "passed"
    elif telling and measured.low > fault:
        severity = "fault"
    elif telling and measured.low > warning:
        severity = "warning"
    threshold = fault if severity == "fault" else warning
    return Finding(name, measured, what, threshold, severity, text, remedy, share, of)
