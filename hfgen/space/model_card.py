"""A model's card: in words what became of its detail, and the diagnosis, where `hfgen diagnose` left one."""

from __future__ import annotations

from functools import partial
from typing import Any

from hfgen.diagnosis.figure import waterfall
from hfgen.documents import DIAGNOSIS
from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.reporting.charts import inline
from hfgen.reporting.metric_table import about
from hfgen.space import markup
from hfgen.space.loaded_models import LoadedModels, Model, logger
from hfgen.space.markup import share, text


def card(loaded: LoadedModels, model: Model, record: dict[str, Any] | None) -> str:
    """In full."""
    style = loaded.styles[model.name]
    head = f"<h3>{style.swatch()} {text(model.name)}</h3>"
    return f'<article class="hf-card" style="--mark:{style.colour}">{head}{_content(loaded, model, record)}</article>'


def folded_card(loaded: LoadedModels, model: Model, record: dict[str, Any] | None, *, is_open: bool) -> str:
    """The same under its name, one open at a time; a click on its point of a chart opens it (`interface.js`)."""
    style = loaded.styles[model.name]
    words = f" <small>{text(about(record['model']))}</small>" if record else ""
    head = f"<summary>{style.swatch()} {text(model.name)}{words}</summary>"
    return (
        f'<details class="hf-card hf-folded" name="hf-model" data-hf-model="{text(model.name)}" '
        f'style="--mark:{style.colour}"{" open" * is_open}>{head}'
        f"{_content(loaded, model, record)}</details>"
    )


def _content(loaded: LoadedModels, model: Model, record: dict[str, Any] | None) -> str:
    diagnosis = _diagnosis(loaded, model)
    verdict = diagnosis.get("verdict", {})
    parts = [f'<p class="hf-verdict">{text(verdict["sentence"])}</p>'] if verdict else []
    parts.append(markup.bullets(_in_words(record)) if record else markup.paragraphs("It has no record yet."))
    more = []
    if verdict.get("remedy"):
        more.append(markup.paragraphs(str(verdict["remedy"])))
    more += _causes(model.name, diagnosis)
    if more:
        parts.append(markup.details("What to do, and how we know", *more))
    return "".join(parts)


def _diagnosis(loaded: LoadedModels, model: Model) -> dict[str, Any]:
    """The diagnosis beside the model; empty where there is none, or it is damaged or of other weights."""
    place = model.folder / "diagnosis.json"
    if not place.is_file():
        return {}
    try:
        found = read_json(place)
    except UserError as error:
        logger.warning("%s", error)
        return {}
    measured = found.get("model") if isinstance(found, dict) else None
    weights = measured.get("weights") if isinstance(measured, dict) else None
    if weights is not None and loaded.weights(model) not in (weights, None):
        logger.warning("diagnosis: %s is of other weights than the model has now, and isn't shown", place)
        return {}
    verdict = found.get("verdict") if isinstance(found, dict) else None
    return found if isinstance(verdict, dict) and "sentence" in verdict else {}


def _causes(name: str, diagnosis: dict[str, Any]) -> list[str]:
    """The waterfall of a diagnosis in today's schema that found causes."""
    if diagnosis.get("schema") != DIAGNOSIS.version or not diagnosis["causes"]:
        return []
    caption = f"{name}: its missing detail, cause by cause"
    shares = ", ".join(f"{cause} {entry['value']:.2f}" for cause, entry in diagnosis["causes"].items())
    return [markup.figure(inline(partial(waterfall, diagnosis), f"causes of {name}", f"{caption}: {shares}"), caption)]


def _in_words(record: dict[str, Any]) -> list[str]:
    """A line each on its reconstructions, on what of them is known, on its samples, and on their variety."""
    lines = []
    for kind in ("reconstruction", "sample"):
        value = value_of(record, f"hf_ratio_{kind}")
        if value is not None:
            lines.append(f"Its {kind}s have {share(value)} of real images' fine detail: {_judged(value)}.")
    coherence = value_of(record, "coherence_high")
    if coherence is not None:
        lines.append(f"From its reconstructions {share(coherence)} of the real fine detail can be predicted.")
    coverage, recall = value_of(record, "coverage"), value_of(record, "recall")
    if coverage is not None:
        lines.append(f"Its samples cover {share(coverage)} of the held-out images.")
    elif recall is not None:
        lines.append(f"Its samples come near {share(recall)} of the held-out images.")
    return lines


def _judged(ratio: float) -> str:
    if ratio < 0.8:
        return "blurred"
    return "as sharp as real" if ratio <= 1.25 else "noisier than real"


def value_of(record: dict[str, Any], *names: str) -> float | None:
    """The first of the metrics that the record has."""
    return next((record["metrics"][name]["value"] for name in names if name in record["metrics"]), None)
