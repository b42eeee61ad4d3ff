"""The studies' figures, and a page that a student can read: claim, picture, number, verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hfgen.reporting.charts import ink, inline, new_axes, palette
from hfgen.reporting.pages import fill
from hfgen.studies.claims import Panel, Study, p_value, told
from hfgen.studies.effects import in_words
from hfgen.studies.verdicts import VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHIFT = 0.12
_FEW_SEEDS = 2


def draw(study: Study, document: dict[str, Any]) -> Figure:
    """A study's panels, side by side; points are means over seeds, of three or more with their 95 % intervals."""
    cells = _find(study, document)["cells"]
    figure, row = new_axes(len(study.charts))
    for axes, panel in zip(row, study.charts, strict=True):
        _panel(axes, panel, cells)
    return figure


def _panel(axes: Axes, panel: Panel, cells: dict[str, Any]) -> None:
    named = [tick for series in panel.series for tick in series.cells]
    ticks = list(dict.fromkeys(named))
    crowded = len(named) > len(ticks)
    if panel.reference is not None:
        axes.axhline(panel.reference, color=ink(), lw=0.8, ls=":")
    for index, series in enumerate(panel.series):
        colour, marker = palette(index)
        # Side by side, so that intervals don't hide each other.
        aside = _SHIFT * (index - (len(panel.series) - 1) / 2) if crowded else 0.0
        points = [
            (ticks.index(tick) + aside, found)
            for tick, cell in series.cells.items()
            if (found := _found(cells, cell, series.metric)) is not None
        ]
        for place, found in points:
            # An interval of two seeds is so wide that it hides the others.
            if found["low"] is not None and found["seeds"] > _FEW_SEEDS:
                axes.plot([place, place], [found["low"], found["high"]], color=colour, lw=1.2)
        places, values = [place for place, _ in points], [found["value"] for _, found in points]
        axes.plot(places, values, marker, color=colour, ms=5, label=series.label)
    slanted: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, ticks)) > 7 else {}
    )
    axes.set_xticks(range(len(ticks)), ticks, **slanted)
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low), high + 0.06 * (high - min(0.0, low)))
    axes.set_xlabel(panel.ticks)
    axes.set_ylabel(panel.height)
    if crowded:
        axes.legend(frameon=False, fontsize=8)


def render(studies: Sequence[Study], document: dict[str, Any]) -> str:
    """The page; it needs no network."""
    sections = [_section(study, document) for study in studies]
    verdicts = Counter(claim["verdict"] for section in sections for claim in section["claims"])
    return fill(
        "studies/study.html",
        document=document,
        studies=sections,
        in_words=in_words,
        told=told,
        p_value=p_value,
        total=verdicts.total(),
        verdicts=[(verdict, verdicts[verdict]) for verdict in VERDICTS if verdicts[verdict]],
    )


def _section(study: Study, document: dict[str, Any]) -> dict[str, Any]:
    found = _find(study, document)
    charts = []
    for place, panel in enumerate(study.charts):
        alt = _alt(panel, found["cells"])
        charts.append(inline(partial(_draw_alone, panel, found["cells"]), f"{study.name}-{place}", alt))
    return {**found, "charts": charts}


def _draw_alone(panel: Panel, cells: dict[str, Any]) -> Figure:
    figure, (axes,) = new_axes(1, 4.5, 3.4)
    _panel(axes, panel, cells)
    return figure


def _alt(panel: Panel, cells: dict[str, Any]) -> str:
    """The chart's numbers in words."""
    parts = []
    for series in panel.series:
        numbers = [
            f"{tick}: {found['value']:.2g}"
            for tick, cell in series.cells.items()
            if (found := _found(cells, cell, series.metric)) is not None
        ]
        parts.append(f"{panel.height}, {series.label} by {panel.ticks}: {', '.join(numbers)}")
    return "Points, of three seeds or more with intervals. " + "; ".join(parts) + "."


def _find(study: Study, document: dict[str, Any]) -> dict[str, Any]:
    return next(found for found in document["studies"] if found["name"] == study.name)


def _found(cells: dict[str, Any], cell: str, metric: str) -> dict[str, Any] | None:
    """A cell's metric; None where it isn't defined, or the sentences that were asked for need no such cell."""
    found: dict[str, Any] | None = cells[cell]["metrics"].get(metric) if cell in cells else None
    return found
