"""A comparison -> one HTML page that needs nothing else: no request, no script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from hfgen.comparison.autoencoders import autoencoder_table
from hfgen.comparison.figures import charts, ends_of_spectra
from hfgen.comparison.galleries import Gallery
from hfgen.metrics import Estimate, JudgePower
from hfgen.reporting.glossary import METRICS
from hfgen.reporting.numbers import number
from hfgen.reporting.pages import both_themes, data_uri, fill
from hfgen.reporting.pictures import Strip, png, strip_picture

if TYPE_CHECKING:
    pass


class _Words(NamedTuple):
    section: str
    caption: str
    alt: Callable[[dict[str, Any]], str]


def render(comparison: dict[str, Any], rows: list[Strip], failures: list[Gallery]) -> str:
    """The page, in the light or the dark as the reader's system has it."""
    *details, answer = comparison["reading"]
    return fill(
        "comparison/report.html",
        comparison=comparison,
        answer=answer,
        details=details,
        strips=[_strip(row) for row in rows],
        shown=len(rows[0].images),
        failures=[
            {"title": gallery.title, "caption": gallery.caption, "strips": [_strip(row) for row in gallery.strips]}
            for gallery in failures
        ],
        figures=_figures(comparison),
        table=_table(comparison),
        autoencoders=autoencoder_table(comparison),
        differences=_differences(comparison),
        costs=_costs(comparison),
        power=lambda found: str(JudgePower(**found)),
        glossary=[METRICS[name] for name in _present(comparison)],
    )


def _strip(strip: Strip) -> dict[str, Any]:
    picture = strip_picture(strip)
    return {
        "label": strip.label,
        "source": data_uri(png(picture)),
        "width": picture.width,
        "height": picture.height,
        "alt": f"{len(strip.images)} pictures in a row ({strip.label})",
    }


def _figures(comparison: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """By the section of the page."""
    sections: dict[str, list[dict[str, str]]] = {words.section: [] for words in _WORDS.values()}
    for name, draw in charts(comparison).items():
        words = _WORDS[name]
        figure = {**both_themes(partial(draw, comparison)), "alt": words.alt(comparison), "caption": words.caption}
        sections[words.section].append(figure)
    return sections


def _spectra_in_words(comparison: dict[str, Any]) -> str:
    frequencies = comparison["spectrum"]["frequencies"]
    return (
        f"Line chart of power relative to real against frequency; "
        f"from {frequencies[0]:.2f} to {frequencies[-1]:.2f} cycles per pixel, {ends_of_spectra(comparison)}."
    )


def _high_frequency_in_words(comparison: dict[str, Any]) -> str:
    ratios = [
        f"{name}, {kind}s: {number(Estimate(**metrics[f'hf_ratio_{kind}']))}"
        for name, model in comparison["models"].items()
        for metrics in [model["metrics"]]
        for kind in ("reconstruction", "sample")
        if f"hf_ratio_{kind}" in metrics
    ]
    return f"Points with intervals of the high-frequency power relative to real; {'; '.join(ratios)}."


def _perception_distortion_in_words(comparison: dict[str, Any]) -> str:
    points = [
        f"{name}: error {number(Estimate(**point['mse']))}, KID {number(Estimate(**point['kid']))}"
        for name, point in comparison["perception_distortion"].items()
    ]
    return f"Points with intervals in both directions; {'; '.join(points)}."


def _reading_in_words(comparison: dict[str, Any]) -> str:
    ends = [
        f"{name}: {points[0]['value']:.2f} to {points[-1]['value']:.2f}"
        for name, model in comparison["models"].items()
        if "reading" in model
        for points in [model["reading"]["reconstruction"]]
    ]
    return f"Line chart of the share of letters read by height, from the smallest to the tallest; {'; '.join(ends)}."


def _rate_distortion_in_words(comparison: dict[str, Any]) -> str:
    points = [
        f"{name}: {bits:.3g} bits a pixel, {number(Estimate(**model['metrics']['psnr']))} dB"
        for name, model in comparison["models"].items()
        if (bits := model.get("latent", {}).get("bits_per_pixel")) and "psnr" in model["metrics"]
    ]
    return f"Points with intervals of PSNR against the latent's rate; {'; '.join(points)}."


def _costs_in_words(comparison: dict[str, Any]) -> str:
    bars = [
        f"{name}, {kind}: {cost[kind]['milliseconds_per_image']['median']:.3g}"
        for name, cost in comparison["costs"].items()
        for kind in ("reconstruction", "sampling")
        if kind in cost
    ]
    return f"Bars of the median milliseconds an image; {'; '.join(bars)}."


_WORDS = {
    "spectra": _Words(
        "frequencies",
        "Power from coarse (left) to fine detail (right), over that of real images. "
        "A line that falls to the right is blur. Solid: samples; dashed: reconstructions.",
        _spectra_in_words,
    ),
    "high_frequency": _Words(
        "frequencies",
        "The high frequencies in one number, with 95 % intervals. Filled: samples; open: reconstructions.",
        _high_frequency_in_words,
    ),
    "perception_distortion": _Words(
        "plane",
        "To the left: closer to the original. Further down: closer to real images as a set. Bars: 95 % intervals. "
        "Filled: the model. Open, at twice its error on the line: a decoder of the same code whose images are "
        "distributed as real ones exists at this error at most (Blau & Michaeli 2018; twice the least error "
        "possible, which the model's own error bounds).",
        _perception_distortion_in_words,
    ),
    "reading": _Words(
        "autoencoders",
        "Does text survive? Lines of random letters, drawn at known heights, go through each model and are read again "
        "by one small network. Bars: 95 % intervals. Dashed: what it reads in the drawn images themselves.",
        _reading_in_words,
    ),
    "rate_distortion": _Words(
        "autoencoders",
        "Further left: fewer bits. Further up: closer to the original. The rate is that of the codes, or of the "
        "posterior over a normal density fitted to each channel of the latent.",
        _rate_distortion_in_words,
    ),
    "costs": _Words(
        "cost",
        "Medians of batches after warm-up; whiskers from the fastest to the slowest batch. "
        "Filled: sampling; open: reconstruction.",
        _costs_in_words,
    ),
}


def _present(comparison: dict[str, Any]) -> list[str]:
    """The metrics that some model has, in the order of the table."""
    measured = {name for column in _columns(comparison)[1:] for name in column}
    return [name for name in METRICS if name in measured]


def _columns(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """What both judges say of other real images, and of each model."""
    second = comparison["second_judge"] or {"baseline": {}, "models": {}}
    return [
        {**comparison["baseline"], **second["baseline"]},
        *({**model["metrics"], **second["models"].get(name, {})} for name, model in comparison["models"].items()),
    ]


def _table(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    columns = _columns(comparison)
    return [
        {"metric": METRICS[name], "cells": [_cell(column.get(name)) for column in columns]}
        for name in _present(comparison)
    ]


def _cell(fields: dict[str, Any] | None) -> tuple[str, str] | None:
    """The value and its interval."""
    if fields is None:
        return None
    value, _, interval = number(Estimate(**fields)).partition(" ")
    return value, interval


def _differences(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each metric and pair of models."""
    return [
        {"metric": METRICS[name], "pair": pair, "cell": _cell(pair["difference"])}
        for name in METRICS
        for pair in comparison["differences"].get(name, [])
    ]


def _costs(comparison: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "model": name,
            "kind": kind,
            "time": _spread(cost[kind]["milliseconds_per_image"], 1),
            "memory": _spread(cost[kind]["bytes_per_image"], 1e6),
            "peak": f"{cost[kind]['peak_bytes'] / 1e6:,.0f}",
            "where": f"{cost['device']}, {cost['threads']} threads, {cost['repeats']} batches of {cost['batch_size']}",
        }
        for name, cost in comparison["costs"].items()
        for kind in ("reconstruction", "sampling")
        if kind in cost
    ]


def _spread(values: dict[str, float], unit: float) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*(values[key] / unit for key in ("median", "lowest", "highest")))
