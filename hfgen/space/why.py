"""The view "Why blurry?": the answer in large, a card a model, a card a claim; the numbers are folded away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.reporting.charts import encode
from hfgen.reporting.numbers import number
from hfgen.space import averaging, markup
from hfgen.space.evidence import NO_RECORD, comparable, estimate, left_out, plane
from hfgen.space.loaded_models import LoadedModels, Model, logger, results_of
from hfgen.space.markup import share, text
from hfgen.space.spectrum_chart import Line, spectrum_chart

_VARIETY = {name: name for name in ("precision", "recall", "density", "coverage")}
_SPECTRA = (
    "Power over that of real images: solid of samples, dotted of reconstructions. What falls below the line of real "
    "images at the right is blur."
)
_VERDICTS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}


def why(loaded: LoadedModels) -> str:
    """The view, from the models' records and from what `hfgen compare`, `diagnose` and `study` left beside them."""
    records, others = comparable(loaded)
    cards = [_model(loaded, model, records.get(name)) for name, model in loaded.models.items()]
    parts = [f'<p class="hf-answer">{text(_answer(loaded, records))}</p>']
    if records:
        parts.append(_spectra(loaded, records))
    parts += [markup.heading("Model by model"), _cards(cards), *_claims(loaded)]
    average = averaging.sections(records) if records else []
    parts.append(markup.details("Are the reconstructions an average?", markup.paragraphs(averaging.WORDS), *average))
    if records:
        parts.append(markup.details("What sharpness costs in variety", _variety(records)))
    sentences = [line for found in results_of(loaded, "comparison.json") for line in found.get("reading", [])[:-1]]
    if sentences:
        parts.append(markup.details("Everything that the comparison says", markup.bullets(sentences)))
    return markup.view(*parts, left_out(others), markup.link("why"))


def _answer(loaded: LoadedModels, records: dict[str, dict[str, Any]]) -> str:
    """One sentence: the comparison's own, or from the records, or what is to be done."""
    for comparison in results_of(loaded, "comparison.json"):
        if comparison.get("reading"):
            return str(comparison["reading"][-1])
    kept = {name: _value(record, "hf_ratio_sample", "hf_ratio_reconstruction") for name, record in records.items()}
    known = {name: value for name, value in kept.items() if value is not None}
    if not known:
        return f"Blur is what the latent doesn't tell. {NO_RECORD}"
    ordered = sorted(known.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{name} {share(value)}" for name, value in ordered)
    return (
        f"Of the fine detail of real images the models' pictures have: {listed}. Blur is what the latent doesn't tell."
    )


def _value(record: dict[str, Any], *names: str) -> float | None:
    """The first of the metrics that the record has."""
    return next((record["metrics"][name]["value"] for name in names if name in record["metrics"]), None)


def _cards(cards: Sequence[str]) -> str:
    return f'<div class="hf-cards">{"".join(cards)}</div>'


def _model(loaded: LoadedModels, model: Model, record: dict[str, Any] | None) -> str:
    """In words what became of its detail, and the diagnosis, where `hfgen diagnose` left one."""
    style = loaded.styles[model.name]
    parts = [f"<h4>{style.swatch()} {text(model.name)}</h4>"]
    diagnosis = _diagnosis(model)
    if diagnosis:
        parts.append(f'<p class="hf-verdict">{text(diagnosis["sentence"])}</p>')
    parts.append(markup.bullets(_in_words(record)) if record else markup.paragraphs("It has no record yet."))
    more = []
    if diagnosis.get("remedy"):
        more.append(markup.paragraphs(str(diagnosis["remedy"])))
    if (model.folder / "waterfall.png").is_file():
        words = f"{model.name}: its missing detail, cause by cause"
        more.append(markup.figure(markup.chart((model.folder / "waterfall.png").read_bytes(), words), words))
    if more:
        parts.append(markup.details("What to do, and how we know", *more))
    return f'<article class="hf-card" style="--mark:{style.colour}">{"".join(parts)}</article>'


def _diagnosis(model: Model) -> dict[str, Any]:
    """The verdict of the diagnosis beside the model; empty where there is none, or it is damaged."""
    place = model.folder / "diagnosis.json"
    if not place.is_file():
        return {}
    try:
        found = read_json(place)
    except UserError as error:
        logger.warning("%s", error)
        return {}
    verdict = found.get("verdict") if isinstance(found, dict) else None
    return verdict if isinstance(verdict, dict) and "sentence" in verdict else {}


def _in_words(record: dict[str, Any]) -> list[str]:
    """A line each on its reconstructions, on what of them is known, on its samples, and on their variety."""
    lines = []
    for kind in ("reconstruction", "sample"):
        value = _value(record, f"hf_ratio_{kind}")
        if value is not None:
            lines.append(f"Its {kind}s have {share(value)} of real images' fine detail: {_judged(value)}.")
    coherence = _value(record, "coherence_high")
    if coherence is not None:
        lines.append(f"{share(coherence)} of the real fine detail follows from its reconstructions: that is known.")
    coverage, recall = _value(record, "coverage"), _value(record, "recall")
    if coverage is not None:
        lines.append(f"Its samples cover {share(coverage)} of the held-out images.")
    elif recall is not None:
        lines.append(f"Its samples come near {share(recall)} of the held-out images.")
    return lines


def _judged(ratio: float) -> str:
    if ratio < 0.8:
        return "blurred"
    return "as sharp as real" if ratio <= 1.25 else "noisier than real"


def _claims(loaded: LoadedModels) -> list[str]:
    """What the studies found, where `hfgen study` left it: a card a claim."""
    found = [verdict for study in results_of(loaded, "study.json") for verdict in study.get("verdicts", [])]
    if not found:
        return []
    decided = [_claim(one) for one in found if one.get("verdict") in ("supported", "contradicted")]
    others = [_claim(one) for one in found if one.get("verdict") not in ("supported", "contradicted")]
    parts = [markup.heading("The folklore, measured"), _cards(decided)]
    return [*parts, markup.details(f"Undecided: {len(others)}", _cards(others))] if others else parts


def _claim(found: dict[str, Any]) -> str:
    verdict = str(found.get("verdict", "undecided"))
    mark = _VERDICTS.get(verdict, "?")
    badge = f'<p class="hf-badge hf-{text(verdict)}"><i aria-hidden="true">{mark}</i> {text(verdict)}</p>'
    known = markup.details("How we know", markup.paragraphs(str(found.get("number", "-"))))
    return (
        f'<article class="hf-card"><p class="hf-claim">{text(str(found.get("claim", "-")))}</p>{badge}{known}</article>'
    )


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


def _variety(records: dict[str, dict[str, Any]]) -> str:
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
    picture = markup.chart(encode(plane(points, list(records), "recall", "precision")), alt)
    return markup.figure(picture, caption) + markup.table(*_table(sets, _VARIETY, "variety, in numbers"))
