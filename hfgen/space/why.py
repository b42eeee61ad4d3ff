"""The view "Why blurry?": the answer in large, a card a model, a card a claim; the numbers are folded away."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hfgen.comparison.headline import headline
from hfgen.reporting.charts import inline, legend, new_axes
from hfgen.reporting.colours import Style
from hfgen.reporting.numbers import number, without_intervals
from hfgen.space import averaging, markup
from hfgen.space.evidence import NO_RECORD, comparable, comparison_of, estimate, left_out
from hfgen.space.loaded_models import LoadedModels, results_of
from hfgen.space.markup import share, text
from hfgen.space.model_card import card, value_of
from hfgen.space.spectrum_chart import Line, spectrum_chart
from hfgen.space.verdict_cards import claims, posteriors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AVERAGE = (
    "A decoder trained on squared error shows an average of what it doesn't tell apart, and an average is blurred."
)
_VARIETY = {name: name for name in ("precision", "recall", "density", "coverage")}
_SPECTRA = (
    "Power over that of real images: solid of samples, dotted of reconstructions. What falls below the line of real "
    "images at the right is blur."
)


def why(loaded: LoadedModels) -> str:
    """The view, from the models' records and from what `hfgen compare`, `diagnose` and `study` left beside them."""
    records, others = comparable(loaded)
    cards = [card(loaded, model, records.get(name)) for name, model in loaded.models.items()]
    answer, *reasons = _answer(loaded, records)
    words = f'<div><p class="hf-answer">{text(answer)}</p>{markup.paragraphs(*reasons)}</div>'
    parts = [f'<div class="hf-opening">{words}{_spectra(loaded, records)}</div>']
    parts += [markup.heading("Model by model"), markup.cards(cards), *claims(loaded), *posteriors(loaded)]
    average = averaging.sections(records, loaded.styles) if records else []
    parts.append(markup.details("Are the reconstructions an average?", markup.paragraphs(averaging.WORDS), *average))
    if records:
        parts.append(markup.details("What sharpness costs in variety", _variety(records, loaded.styles)))
    sentences = [line for found in results_of(loaded, "comparison.json") for line in found.get("reading", [])[:-1]]
    if sentences:
        parts.append(markup.details("Everything that the comparison says", markup.bullets(sentences)))
    return markup.view(*parts, left_out(others), markup.link("why"))


def _answer(loaded: LoadedModels, records: dict[str, dict[str, Any]]) -> list[str]:
    """The answer, then its reasons: the comparison's own, or from the records, or what is to be done."""
    if comparison := comparison_of(loaded, records):
        found = headline(comparison)
        return [found.answer, *found.reasons]
    for other in results_of(loaded, "comparison.json"):
        if other.get("reading"):
            return [without_intervals(str(other["reading"][-1]))]
    kept = {name: value_of(record, "hf_ratio_sample", "hf_ratio_reconstruction") for name, record in records.items()}
    known = {name: value for name, value in kept.items() if value is not None}
    if not known:
        return [f"{_AVERAGE} {NO_RECORD}"]
    ordered = sorted(known.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{name} {share(value)}" for name, value in ordered)
    return [f"Of the fine detail of real images the models' pictures have: {listed}. {_AVERAGE}"]


def _spectra(loaded: LoadedModels, records: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, record in records.items():
        spectrum = record["spectrum"]
        kinds = [spectrum[kind] for kind in ("sample", "reconstruction") if kind in spectrum]
        if kinds:
            # Of bands without real power no share can be given.
            kept = [place for place, real in enumerate(spectrum["real"]) if real > 0]
            shares = [[kind[place] / spectrum["real"][place] for place in kept] for kind in kinds]
            frequencies = [spectrum["frequencies"][place] for place in kept]
            lines.append(Line(name, loaded.styles[name], frequencies, shares[0], shares[-1]))
    return f'<div class="hf-wide">{spectrum_chart(lines, _SPECTRA)}</div>' if lines else ""


def _table(
    records: dict[str, dict[str, Any]], names: dict[str, str], label: str
) -> tuple[tuple[str, ...], list[list[str]], str]:
    """Head, rows and label; columns that no model has are left out."""
    there = {name: words for name, words in names.items() if any(name in one["metrics"] for one in records.values())}
    rows = [[model, *(_cell(record["metrics"].get(name)) for name in there)] for model, record in records.items()]
    return ("model", *there.values()), rows, label


def _cell(entry: dict[str, Any] | None) -> str:
    return "-" if entry is None else number(estimate(entry))


def _variety(records: dict[str, dict[str, Any]], looks: Mapping[str, Style]) -> str:
    real = next(iter(records.values()))["baseline"]
    sets = {**records, "other real images": {"metrics": real}}
    points = {
        name: (entries["metrics"]["recall"], entries["metrics"]["precision"])
        for name, entries in sets.items()
        if "recall" in entries["metrics"] and "precision" in entries["metrics"]
    }
    if not points:
        return markup.paragraphs("No model here draws samples, so there is no variety to measure.")
    alt = "; ".join(f"{name}: recall {a['value']:.2f}, precision {b['value']:.2f}" for name, (a, b) in points.items())
    caption = "Precision: the share of samples that lie near a real image; recall: the share of real images that lie "
    caption += "near a sample. A crisp model that drops modes lies at the top left."
    picture = inline(partial(_plane, points, looks), "variety", alt)
    return markup.figure(picture, caption) + markup.table(*_table(sets, _VARIETY, "variety, in numbers"))


def _plane(points: dict[str, tuple[dict[str, Any], dict[str, Any]]], styles: Mapping[str, Style]) -> Figure:
    """Recall and precision with both intervals; a point that is none of the models is a grey star."""
    figure, (axes,) = new_axes(1, 4.5, 4.2)
    for name, (first, second) in points.items():
        errors = [[[one["value"] - one["low"]], [one["high"] - one["value"]]] for one in (first, second)]
        colour, marker = (styles[name].colour, styles[name].marker) if name in styles else ("#808080", "*")
        looks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 6, "capsize": 3, "label": name}
        axes.errorbar(first["value"], second["value"], xerr=errors[0], yerr=errors[1], ls="", **looks)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    legend(figure)
    return figure
