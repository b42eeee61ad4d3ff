"""Rate, distortion and perception as an interactive chart: Plotly's, which Gradio carries, with all data inside."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number
from hfgen.space import markup
from hfgen.space.evidence import comparable, comparison_of, estimate
from hfgen.space.loaded_models import LoadedModels
from hfgen.space.markup import text

Entry = dict[str, Any]


class Axis(NamedTuple):
    """What an axis is called, and each model's number on it."""

    label: str
    entries: dict[str, Entry]


PLANES = {
    "perception": "Distortion and perception",
    "rate": "Rate and distortion",
    "rate_perception": "Rate and perception",
}
_AXES = {"perception": (0, 1), "rate": (2, 0), "rate_perception": (2, 1)}
_WORDS = {
    "perception": "Further left is nearer to the original, further down nearer to real images as a set. No decoder of "
    "one latent is best at both (Blau and Michaeli, 2018).",
    "rate": "Further left costs fewer bits, further down is nearer to the original.",
    "rate_perception": "Further left costs fewer bits, further down is nearer to real images as a set.",
}
_LOOK: dict[str, Any] = {
    "height": 420,
    "margin": {"l": 70, "r": 16, "t": 40, "b": 56},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    # Grey that shows on light and on dark pages; the style sheet gives words the page's own colour.
    "font": {"family": "Source Sans Pro, sans-serif", "size": 14, "color": "#808080"},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    "hovermode": "closest",
    "hoverlabel": {"bgcolor": "#1b1b1f", "align": "left", "font": {"family": "sans-serif", "color": "#ffffff"}},
    "dragmode": "pan",
}
_GRID = {"gridcolor": "rgba(128,128,128,.25)", "zerolinecolor": "rgba(128,128,128,.8)", "rangemode": "tozero"}


def plane(loaded: LoadedModels, chosen: str) -> tuple[str | None, str]:
    """One of `PLANES`: the chart as Plotly's JSON, None where no model has a place on it; and what it says, as HTML."""
    records, _ = comparable(loaded)
    x, y = (_axes(loaded, records)[place] for place in _AXES[chosen])
    there = [name for name in records if name in x.entries and name in y.entries]
    words = [_WORDS[chosen]] if there else ["No model here has both numbers of these axes in its record."]
    if absent := [name for name in loaded.models if name not in there]:
        words.append(f"Without a place on it: {', '.join(absent)}.")
    if not there:
        return None, markup.view(markup.paragraphs(" ".join(words)))
    words.append("Bars: 95 % intervals. A point, or its name below, opens the model's card.")
    points = [_point(loaded, name, x, y) for name in there]
    names = "".join(_name(loaded, name, x, y) for name in there)
    axes = {"xaxis": {**_GRID, "title": {"text": x.label}}, "yaxis": {**_GRID, "title": {"text": y.label}}}
    chart = {"data": points, "layout": {**_LOOK, **axes}, "config": {"displaylogo": False, "displayModeBar": False}}
    return json.dumps(chart), markup.view(markup.paragraphs(" ".join(words)), f'<ul class="hf-points">{names}</ul>')


def _point(loaded: LoadedModels, name: str, x: Axis, y: Axis) -> dict[str, Any]:
    style = loaded.styles[name]
    at, up = estimate(x.entries[name]), estimate(y.entries[name])
    said = "<br>".join(f"{axis.label}: {number(one)}" for axis, one in ((x, at), (y, up)))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [at.value],
        "y": [up.value],
        "error_x": _bars(at),
        "error_y": _bars(up),
        "marker": {"symbol": style.symbol, "color": style.colour, "size": 13},
        "hovertemplate": f"<b>%{{fullData.name}}</b><br>{said}<extra></extra>",
    }


def _name(loaded: LoadedModels, name: str, x: Axis, y: Axis) -> str:
    """A point for who has no mouse: its model's button, and where it lies."""
    said = "; ".join(f"{axis.label}: {number(estimate(axis.entries[name]))}" for axis in (x, y))
    button = f'<button type="button" data-hf-card="{text(name)}">{loaded.styles[name].swatch()} {text(name)}</button>'
    return f"<li>{button} {text(said)}</li>"


def _bars(one: Estimate) -> dict[str, Any]:
    ends = {"array": [one.high - one.value], "arrayminus": [one.value - one.low]}
    return {"type": "data", "symmetric": False, "thickness": 1.5, "width": 5, **ends}


def _axes(loaded: LoadedModels, records: dict[str, Entry]) -> tuple[Axis, Axis, Axis]:
    """Distortion, perception and rate: as the comparison measured them, where there is one; else the records' own."""
    metrics = {name: record["metrics"] for name, record in records.items()}
    measured = comparison_of(loaded, records).get("perception_distortion") or {}
    if measured:
        distortion = Axis("Mean squared error (white = 1)", {name: one["mse"] for name, one in measured.items()})
    else:
        distortion = Axis(
            "Squared error at the mean PSNR (white = 1)",
            {name: _mse(entries["psnr"]) for name, entries in metrics.items() if "psnr" in entries},
        )
    return distortion, _perception(metrics, measured), Axis("Rate (bits per pixel)", _rates(records))


def _perception(metrics: dict[str, Entry], measured: dict[str, Any]) -> Axis:
    """One measure for all of them: KID of the reconstructions, or the distance of their spectra."""
    if measured:
        return Axis("KID of reconstructions", {name: one["kid"] for name, one in measured.items()})
    kinds = {
        "kid_reconstruction": "KID of reconstructions",
        "spectral_distance_reconstruction": "Spectral distance of reconstructions",
    }
    metric = next(
        (kind for kind in kinds if any(kind in entries for entries in metrics.values())), "kid_reconstruction"
    )
    return Axis(kinds[metric], {name: entries[metric] for name, entries in metrics.items() if metric in entries})


def _rates(records: dict[str, Entry]) -> dict[str, Entry]:
    """Of the codes or the posterior, as evaluated; it has no interval."""
    rates = {name: record.get("latent", {}).get("bits_per_pixel") for name, record in records.items()}
    return {
        name: {"value": rate, "low": rate, "high": rate, "n": records[name]["data"]["n"]}
        for name, rate in rates.items()
        if rate is not None
    }


def _mse(psnr: Entry) -> Entry:
    value, low, high = (10 ** (-psnr[key] / 10) for key in ("value", "high", "low"))
    return {"value": value, "low": low, "high": high, "n": psnr["n"]}
