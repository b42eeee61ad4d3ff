"""Whether reconstructions are an average: gain, coherence and power, per band, and what is derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hfgen.metrics import Estimate, calibration
from hfgen.reporting.charts import ink, inline, new_axes
from hfgen.reporting.colours import Style
from hfgen.reporting.numbers import number
from hfgen.space import markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = dict[str, dict[str, Any]]

WORDS = (
    "Three numbers per frequency band tell whether reconstructions are an average. Power is how much of the real "
    "images' detail they have. Coherence is how much of it can be predicted from them. Gain is the factor by which "
    "their detail would come nearest to the real images'. A decoder that gives the mean of all images that it can't "
    "tell apart has a gain of 1, and a power that equals its coherence. A gain below 1 says that a part of the detail "
    "is made up, as a flow's or an adversary's can be: crisp, and not the original's. A gain above 1 says that the "
    "detail is fainter than a mean."
)
_DERIVED = (
    "The averaging identity is derived from them: (1 - power) / (1 + power - 2 x gain x power), the missing power over "
    "the error's. It is 1 where the gain is 1, but also where hardly any power is left, so it shows nothing by itself."
)
_COLUMNS = {
    "gain_high": "gain",
    "coherence_high": "coherence",
    "hf_ratio_reconstruction": "power",
    "hf_ratio_sample": "power of samples",
    "averaging_identity": "derived: averaging identity",
}
_SAYS = {
    "conditional mean": "an average",
    "shrunk": "fainter than an average",
    "made up": "detail partly made up",
    "undecided": "too few images to tell",
}
_BANDS = {"gain": "gain (line: an average)", "coherence": "coherence", "power": "power relative to real"}


def sections(records: Records, looks: Mapping[str, Style]) -> list[str]:
    """The high frequencies in a table, all bands in a chart each, and what is derived."""
    rows = [[name, *_cells(record["metrics"])] for name, record in records.items()]
    columns = ("model", "high frequencies", *_COLUMNS.values())
    parts = [markup.table(columns, rows, "averaging, in numbers")]
    models = [name for name, record in records.items() if all(band in record["spectrum"] for band in _BANDS)]
    if models:
        caption = "Gain, coherence and power of the reconstructions from coarse (left) to fine detail (right)."
        spectra = {name: records[name]["spectrum"] for name in models}
        charts = (
            inline(partial(_chart, spectra, looks, band), f"averaging {band}", _in_words(spectra, band))
            for band in _BANDS
        )
        key = markup.key({name: looks[name] for name in models})
        parts.append(markup.figure(f'<div class="hf-charts">{"".join(charts)}</div>{key}', caption))
    return [*parts, markup.paragraphs(_DERIVED)]


def _cells(metrics: dict[str, Any]) -> list[str]:
    found = {name: Estimate(**metrics[name]) for name in _COLUMNS if name in metrics}
    says = _SAYS[calibration(found["gain_high"])] if "gain_high" in found else "-"
    return [says, *(number(found[name]) if name in found else "-" for name in _COLUMNS)]


def _chart(spectra: Records, looks: Mapping[str, Style], band: str) -> Figure:
    figure, (axes,) = new_axes(1, width=3.4, height=2.9)
    axes.axhline(1, color=ink(), lw=1)
    for name, spectrum in spectra.items():
        colour, marker = looks[name].colour, looks[name].marker
        axes.plot(spectrum["frequencies"], spectrum[band], color=colour, marker=marker, ms=4)
    axes.set_xlim(0, 0.5)
    axes.set_ylim(0, None)
    axes.set_xlabel("cycles per pixel")
    axes.set_title(_BANDS[band], fontsize=11)
    return figure


def _in_words(spectra: Records, band: str) -> str:
    ends = (f"{name} {spectrum[band][0]:.2f} to {spectrum[band][-1]:.2f}" for name, spectrum in spectra.items())
    return f"{_BANDS[band]}, from the lowest to the highest frequencies: {', '.join(ends)}"
