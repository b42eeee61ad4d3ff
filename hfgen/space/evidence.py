"""The models' records -> how they compare: one table of every number, a card a model, and the same as JSON values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfgen.metrics import Estimate
from hfgen.reporting.metric_table import REAL, Columns, csv_uri, heads_of, metric_groups
from hfgen.reporting.pages import fill
from hfgen.space import markup
from hfgen.space.loaded_models import LoadedModels, results_of
from hfgen.space.model_card import folded_card

NO_RECORD = "No model here has a record yet: `hfgen evaluate MODEL --data DATA --out MODEL` writes one."


def comparable(loaded: LoadedModels) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Records of one and the same measurement by model, and the names of models that were measured otherwise."""
    records = {name: model.record for name, model in loaded.models.items() if model.record is not None}
    if not records:
        return {}, []
    protocol = _protocol(next(iter(records.values())))
    alike = {name: record for name, record in records.items() if _protocol(record) == protocol}
    return alike, [name for name in records if name not in alike]


def _protocol(record: dict[str, Any]) -> tuple[Any, ...]:
    data, protocol = record["data"], record["protocol"]
    return data["fingerprint"], data["n"], protocol["seed"], protocol["extractor"]["sha256"]


def comparison_of(loaded: LoadedModels, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The comparison.json of all these models, with the same weights, on the same images; empty where there is none."""
    images = {record["data"]["fingerprint"] for record in records.values()}
    weights = {name: record["model"].get("weights") for name, record in records.items()}
    for found in results_of(loaded, "comparison.json"):
        theirs = {name: one.get("model", {}).get("weights") for name, one in found.get("models", {}).items()}
        if {found.get("data", {}).get("fingerprint")} == images and weights.items() <= theirs.items():
            return dict(found)
    return {}


def compare(loaded: LoadedModels) -> tuple[str, str, dict[str, Any]]:
    """The view "Compare" without its chart: a card a model, the table, and all numbers as JSON values."""
    records, others = comparable(loaded)
    first = next(iter(loaded.models))
    cards = "".join(
        folded_card(loaded, model, records.get(name), is_open=name == first) for name, model in loaded.models.items()
    )
    cards = markup.view(markup.paragraphs(*([_about(next(iter(records.values())))] if records else [NO_RECORD])), cards)
    if not records:
        return cards, markup.view(markup.link("compare")), {}
    comparison = comparison_of(loaded, records)
    columns = _columns(records, comparison)
    table = fill(
        "space/metrics.html",
        heads=heads_of(columns, records, loaded.styles),
        groups=metric_groups(columns, REAL, comparison.get("differences", {})),
        csv=csv_uri(columns),
        second_judge=comparison.get("second_judge"),
    )
    return cards, markup.view(table, left_out(others), markup.link("compare")), {"models": columns}


def _columns(records: dict[str, dict[str, Any]], comparison: dict[str, Any]) -> Columns:
    """What both judges say of other real images, and of each model; the second one's is a comparison's."""
    second = comparison.get("second_judge") or {"baseline": {}, "models": {}}
    return {
        REAL: {**next(iter(records.values()))["baseline"], **second["baseline"]},
        **{name: {**record["metrics"], **second["models"].get(name, {})} for name, record in records.items()},
    }


def _about(record: dict[str, Any]) -> str:
    data, extractor = record["data"], record["protocol"]["extractor"]
    return (
        f"Measured on {data['n']:,} held-out images of {Path(data['id']).name} at {data['resolution']} px, features of "
        f"{extractor['id']} ({extractor['sha256'][:12]}); intervals of 95 %."
    )


def estimate(entry: dict[str, Any]) -> Estimate:
    """A record's number with its interval."""
    return Estimate(**entry)


def left_out(others: list[str]) -> str:
    """Which models were measured otherwise."""
    if not others:
        return ""
    return markup.paragraphs(f"Measured on other images or otherwise, hence left out: {', '.join(others)}.")
