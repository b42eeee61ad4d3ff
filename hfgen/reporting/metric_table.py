"""A column a model: metrics in groups, the best and its ties marked, intervals as bars on one scale a row; and CSV."""

from __future__ import annotations

import csv
import io
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hfgen.metrics import Estimate
from hfgen.reporting.best import Pairs, best
from hfgen.reporting.colours import Style
from hfgen.reporting.glossary import GROUPS, METRICS, Metric, group_of
from hfgen.reporting.numbers import number

Columns = Mapping[str, Mapping[str, dict[str, Any]]]
"""Metrics as a record holds them, by model."""


REAL = "other real images"
"""The column of what they score beside the held-out ones."""


class Head(NamedTuple):
    """Of a column: the model's name, its mark as SVG, what it is, and the colour of its bars."""

    name: str
    mark: str
    about: str
    colour: str


class Bar(NamedTuple):
    """An interval and its value as places from 0 to 100 of the row's scale."""

    low: float
    value: float
    high: float


class Cell(NamedTuple):
    """A number, its interval in words and as a bar, and `best`, `tie` or nothing.

    `sorts`: the number itself, where a table can be sorted by it.
    """

    value: str
    interval: str = ""
    rank: str = ""
    bar: Bar | None = None
    sorts: float | None = None


class Row(NamedTuple):
    """A line of the table; a cell a column, None where a column has no such number."""

    label: str
    better: str
    meaning: str
    cells: list[Cell | None]


def heads_of(names: Iterable[str], records: Mapping[str, Mapping[str, Any]], looks: Mapping[str, Style]) -> list[Head]:
    """The columns' heads; `records`: of the models, each with its `model`; any other name is `REAL`'s."""
    return [
        Head(name, looks[name].swatch(), about(records[name]["model"]), looks[name].colour)
        if name in records
        else Head(name, "", "held-out beside them", "currentColor")
        for name in names
    ]


def about(model: Mapping[str, Any]) -> str:
    """Family and size of a record's `model`."""
    parameters = model["parameters"]
    return f"{model['family']}, " + ("parameters unknown" if parameters is None else f"{parameters:,} parameters")


def metric_groups(columns: Columns, reference: str | None, pairs: Mapping[str, Pairs]) -> dict[str, list[Row]]:
    """The rows by their group, in the groups' and the glossary's order; every metric that some column has.

    Args:
        columns: One of them may be the `reference`, other real images, which is nobody's rival.
        reference: Its name.
        pairs: Differences of two models by metric, which decide on ties.
    """
    there = {metric for column in columns.values() for metric in column}
    named = [*(metric for metric in METRICS if metric in there), *sorted(there - METRICS.keys())]
    groups: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for metric in named:
        groups[group_of(metric)].append(metric_row(metric, columns, reference, pairs.get(metric)))
    return {group: rows for group, rows in groups.items() if rows}


def metric_row(metric: str, columns: Columns, reference: str | None = None, pairs: Pairs | None = None) -> Row:
    """One metric of all columns."""
    label, better, meaning = METRICS.get(metric, Metric(metric, "", ""))
    found = {name: Estimate(**column[metric]) for name, column in columns.items() if metric in column}
    rivals = {name: estimate for name, estimate in found.items() if name != reference}
    leaders = best(metric, rivals, pairs) if len(rivals) > 1 else []
    # Where all tie, there is nothing to mark.
    leaders = leaders if len(leaders) < len(rivals) else []
    ends = [end for estimate in found.values() for end in (estimate.low, estimate.high)]
    # One alone would fill its scale whatever it is.
    scale = (min(ends), max(ends)) if len(found) > 1 else (0.0, 0.0)
    cells = [_cell(found.get(name), _rank(name, leaders), scale) for name in columns]
    return Row(label, better, meaning, cells)


def _rank(name: str, leaders: list[str]) -> str:
    return "" if name not in leaders else "best" if len(leaders) == 1 else "tie"


def _cell(estimate: Estimate | None, rank: str, scale: tuple[float, float]) -> Cell | None:
    if estimate is None:
        return None
    value, _, interval = number(estimate).partition(" ")
    lowest, highest = scale
    bar = None
    if highest > lowest:
        places = (100 * (end - lowest) / (highest - lowest) for end in (estimate.low, estimate.value, estimate.high))
        bar = Bar(*(round(place, 1) for place in places))
    return Cell(value, interval, rank, bar, estimate.value)


def csv_uri(columns: Columns) -> str:
    """All numbers, unrounded, as the address of a CSV file that is inside the page: a row a metric and column."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(("metric", "model", "value", "low", "high", "n"))
    for name, column in columns.items():
        for metric, entry in column.items():
            table.writerow((metric, name, *(entry[key] for key in ("value", "low", "high", "n"))))
    return "data:text/csv;charset=utf-8," + urllib.parse.quote(written.getvalue())
