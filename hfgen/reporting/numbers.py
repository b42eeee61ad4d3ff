"""Estimates in words: value and interval, with as many digits as the interval allows."""

from __future__ import annotations

import math
import re
from typing import Any

from hfgen.metrics import Estimate

Estimates = dict[str, Estimate]

_MOST_DECIMALS = 6
_INTERVAL = re.compile(r" \[-?[\d.,]*\d, -?[\d.,]*\d\]")


def estimates(metrics: dict[str, dict[str, Any]]) -> Estimates:
    """Metrics as a record holds them."""
    return {name: Estimate(**fields) for name, fields in metrics.items()}


def number(estimate: Estimate) -> str:
    """`0.43 [0.41, 0.46]`: one or two significant digits of the interval's half-width."""
    value, low, high = _rounded(estimate, 1)
    return f"{value} [{low}, {high}]"


def percent(estimate: Estimate) -> str:
    """`43 % [41, 46]`."""
    value, low, high = _rounded(estimate, 100)
    return f"{value} % [{low}, {high}]"


def without_intervals(sentence: str) -> str:
    """The sentence without what `number` and `percent` put in square brackets, for a headline."""
    return _INTERVAL.sub("", sentence)


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether the intervals share a point."""
    return first.low <= second.high and second.low <= first.high


def _rounded(estimate: Estimate, scale: float) -> list[str]:
    half = scale * (estimate.high - estimate.low) / 2
    exact = 0 if float(scale * estimate.value).is_integer() else _MOST_DECIMALS
    decimals = exact if half <= 0 else -math.floor(math.log10(half / 1.5))
    decimals = min(max(decimals, 0), _MOST_DECIMALS)
    parts = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    # Adding 0.0 turns -0.0 into 0.0.
    return [f"{round(part, decimals) + 0.0:.{decimals}f}" for part in parts]


def short(value: float) -> str:
    """Without an interval, for a headline: `0.2`, `17`, `1,250`."""
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}"
