"""The models' records -> how they compare: every number, and the perception-distortion plane."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.metrics import Estimate
from hfgen.reporting.charts import encode, legend, model_style
from hfgen.reporting.numbers import number
from hfgen.space import markup
from hfgen.space.loaded_models import LoadedModels, results_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = dict[str, tuple[dict[str, Any], dict[str, Any]]]

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


def compare(loaded: LoadedModels) -> str:
    """The view "Compare", without its table: the perception-distortion plane."""
    records, others = comparable(loaded)
    if not records:
        return markup.view(markup.paragraphs(NO_RECORD))
    points, (x, y) = _perception_distortion(loaded, records)
    parts = [markup.paragraphs(_about(next(iter(records.values()))))]
    if points:
        alt = "; ".join(
            f"{name}: {x} {number(estimate(a))}, {y} {number(estimate(b))}" for name, (a, b) in points.items()
        )
        caption = "Nearer to the left is more faithful, lower is more like real images. "
        caption += "No decoder of one latent is best at both (Blau and Michaeli, 2018)."
        parts.append(markup.figure(markup.chart(encode(plane(points, list(records), x, y)), alt), caption))
    return markup.view(*parts, left_out(others), markup.link("compare"))


HEAD = ("metric", "model", "value", "low", "high", "n", "other real images")


def rows(loaded: LoadedModels) -> list[list[Any]]:
    """Every number of the comparable records with its interval, for a table that can be sorted; columns: `HEAD`."""
    records, _ = comparable(loaded)
    names = sorted({metric for record in records.values() for metric in record["metrics"]})
    return [
        [metric, name, *(_rounded(entry[key]) for key in ("value", "low", "high")), entry["n"], _rounded(real)]
        for metric in names
        for name, record in records.items()
        if metric in record["metrics"]
        for entry in [record["metrics"][metric]]
        for real in [record["baseline"].get(metric, {}).get("value")]
    ]


def _rounded(value: float | None) -> float | None:
    """Rounded as it is shown."""
    return None if value is None else float(f"{value:.4g}")


def _about(record: dict[str, Any]) -> str:
    data, extractor = record["data"], record["protocol"]["extractor"]
    return (
        f"Measured on {data['n']} held-out images of {Path(data['id']).name} at {data['resolution']} px, features of "
        f"{extractor['id']} ({extractor['sha256'][:12]}); intervals of 95 %."
    )


def plane(points: Points, models: Collection[str], x: str, y: str) -> Figure:
    """Models as points with both intervals; a point that is none of the models is a grey star."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for name, (first, second) in points.items():
        errors = [[[one["value"] - one["low"]], [one["high"] - one["value"]]] for one in (first, second)]
        colour, marker = model_style(models, name) if name in models else ("#808080", "*")
        looks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 6, "capsize": 3, "label": name}
        axes.errorbar(first["value"], second["value"], xerr=errors[0], yerr=errors[1], ls="", **looks)
    axes.set_xlim(*_from_zero([first for first, _ in points.values()]))
    axes.set_ylim(*_from_zero([second for _, second in points.values()]))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    legend(figure)
    return figure


def _from_zero(entries: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """An axis that holds 0 and the intervals whole."""
    least = min(0.0, *(entry["low"] for entry in entries))
    most = max(0.0, *(entry["high"] for entry in entries))
    margin = 0.05 * ((most - least) or 1.0)
    return least - (margin if least < 0 else 0), most + margin


def _perception_distortion(loaded: LoadedModels, records: dict[str, dict[str, Any]]) -> tuple[Points, tuple[str, str]]:
    """A comparison's points, where there is one; else the records' own."""
    for comparison in results_of(loaded, "comparison.json"):
        found = comparison.get("perception_distortion")
        if found:
            return {name: (point["mse"], point["kid"]) for name, point in found.items()}, (
                "distortion: mean squared error (white = 1)",
                "perception: KID of the reconstructions",
            )
    measured = {name: record["metrics"] for name, record in records.items()}
    return {
        name: (_mse(entries["psnr"]), entries["spectral_distance_reconstruction"])
        for name, entries in measured.items()
        if "psnr" in entries and "spectral_distance_reconstruction" in entries
    }, (
        "distortion: squared error at the mean PSNR\n(white = 1)",
        "perception: distance between the spectra of\nreconstructions and real images",
    )


def _mse(psnr: dict[str, Any]) -> dict[str, Any]:
    value, low, high = (10 ** (-psnr[key] / 10) for key in ("value", "high", "low"))
    return {"value": value, "low": low, "high": high, "n": psnr["n"]}


def estimate(entry: dict[str, Any]) -> Estimate:
    """A record's number with its interval."""
    return Estimate(**entry)


def left_out(others: list[str]) -> str:
    """Which models were measured otherwise."""
    if not others:
        return ""
    return markup.paragraphs(f"Measured on other images or otherwise, hence left out: {', '.join(others)}.")
