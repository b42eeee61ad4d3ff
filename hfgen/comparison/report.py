"""A comparison -> one HTML page that needs nothing else: the answer, pictures, charts, then numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from hfgen.comparison.autoencoders import autoencoder_table
from hfgen.comparison.figures import charts, ends_of_spectra
from hfgen.comparison.galleries import RECONSTRUCTIONS, Gallery
from hfgen.comparison.headline import headline
from hfgen.metrics import Estimate, JudgePower
from hfgen.reporting.charts import inline
from hfgen.reporting.colours import Style, styles
from hfgen.reporting.exact_answers import HOW, ROWS, TITLE, ExactAnswer
from hfgen.reporting.glossary import METRICS
from hfgen.reporting.metric_table import REAL, csv_uri, heads_of, metric_groups
from hfgen.reporting.numbers import number
from hfgen.reporting.pages import data_uri, fill
from hfgen.reporting.pictures import PIECE, WHOLE, Shown, Strip, blocks, cut_in_words


class _Words(NamedTuple):
    section: str
    caption: str
    alt: Callable[[dict[str, Any]], str]


_CARD_SIDE, _CARD_ROWS = 64, 3
_NONE: Mapping[str, bytes] = {}


def render(
    comparison: dict[str, Any], shown: list[list[Strip]], failures: list[Gallery], sheets: Mapping[str, bytes] = _NONE
) -> str:
    """The page, in the light or the dark as the reader's system has it.

    Args:
        comparison: What comparison.json holds.
        shown: The first images, in groups of rows that belong together.
        failures: Galleries.
        sheets: By model, the pictures of what its latents say.
    """
    looks = styles(comparison["models"])
    marks = {name: look.swatch() for name, look in looks.items()}
    columns = _columns(comparison)
    autoencoders, rows = autoencoder_table(comparison)
    side = _side(shown)
    return fill(
        "comparison/report.html",
        comparison=comparison,
        headline=headline(comparison),
        cards=_cards(comparison, shown, looks),
        pictures=[blocks(group, marks, most=WHOLE) for group in shown],
        shown=_shown(comparison, len(shown[0][0].images)),
        cut=cut_in_words(side, WHOLE, "grid.png"),
        failures=[
            {
                "title": gallery.title,
                "caption": gallery.caption + cut_in_words(_side(gallery.groups), PIECE, f"figures/{gallery.name}.png"),
                "groups": [blocks(group, marks) for group in gallery.groups],
            }
            for gallery in failures
        ],
        exact={"title": TITLE, "rows": ROWS, "how": HOW, "models": _exact(comparison, sheets, looks)},
        figures=_figures(comparison),
        heads=heads_of(columns, comparison["models"], looks),
        groups=metric_groups(columns, REAL, comparison["differences"]),
        csv=csv_uri(columns),
        autoencoders={"heads": heads_of(autoencoders, comparison["models"], looks), "groups": {"": rows}},
        differences=_differences(comparison),
        costs=_costs(comparison),
        power=lambda found: str(JudgePower(**found)),
    )


def _side(groups: list[list[Strip]]) -> int:
    """Of the pictures, in pixels."""
    return groups[0][0].images.shape[-1]


def _cards(comparison: dict[str, Any], shown: list[list[Strip]], looks: dict[str, Style]) -> list[dict[str, Any]]:
    """A card a model: its first pictures, and its numbers in short."""
    rows = [row for group in shown for row in group]
    cards = []
    for name, facts in headline(comparison).cards.items():
        own = [replace(row, label=row.label.removeprefix(f"{name}: ")) for row in rows if row.model == name]
        (head,) = heads_of([name], comparison["models"], looks)
        cards.append({**head._asdict(), "facts": facts, "pictures": _pictures(own, shown[0][0]) if own else []})
    return cards


def _exact(comparison: dict[str, Any], sheets: Mapping[str, bytes], looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """What each model's latents say, where it was asked."""
    found = comparison.get("posterior", {"models": {}})
    return [
        {
            "name": name,
            "mark": looks[name].swatch(),
            "answer": (answer := ExactAnswer.of(found, entry)),
            "bar": answer.bar(looks[name].colour, "var(--line)"),
            "sheet": data_uri(sheets[name]) if name in sheets else None,
        }
        for name, entry in found["models"].items()
    ]


def _pictures(own: list[Strip], real: Strip) -> list[Shown]:
    """Reconstructions below their originals, and samples; of a model that only draws, more of these."""
    if any(row.label == RECONSTRUCTIONS for row in own):
        return blocks([real, *own], {}, _CARD_SIDE)[0]
    first, *others = blocks(own, {}, _CARD_SIDE)
    whole = [block for block in others if block[0].width == first[0].width]
    return [row for block in [first, *whole][:_CARD_ROWS] for row in block]


def _figures(comparison: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """By the section of the page."""
    sections: dict[str, list[dict[str, str]]] = {words.section: [] for words in _WORDS.values()}
    for name, draw in charts(comparison).items():
        words = _WORDS[name]
        svg = inline(partial(draw, comparison), name, words.alt(comparison))
        sections[words.section].append({"svg": svg, "caption": words.caption})
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
    "rate_distortion": _Words(
        "plane",
        "Further left: fewer bits. Further up: closer to the original. The rate is that of the codes, or of the "
        "posterior over a normal density fitted to each channel of the latent.",
        _rate_distortion_in_words,
    ),
    "reading": _Words(
        "autoencoders",
        "Does text survive? Lines of random letters, drawn at known heights, go through each model and are read again "
        "by one small network. Bars: 95 % intervals. Dashed: what it reads in the drawn images themselves.",
        _reading_in_words,
    ),
    "costs": _Words(
        "cost",
        "Medians of batches after warm-up; whiskers from the fastest to the slowest batch. "
        "Filled: sampling; open: reconstruction.",
        _costs_in_words,
    ),
}


def _shown(comparison: dict[str, Any], count: int) -> str:
    """What the first pictures are."""
    kinds = {kind for model in comparison["models"] for kind in comparison["spectrum"][model]}
    below = ", and below each its reconstructions" if "reconstruction" in kinds else ""
    drawn = f"; then each model's first {count} samples, which answer to no image" if "sample" in kinds else ""
    return f"The first {count} held-out images{below}{drawn}."


def _columns(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What both judges say of other real images, and of each model."""
    second = comparison["second_judge"] or {"baseline": {}, "models": {}}
    return {
        REAL: {**comparison["baseline"], **second["baseline"]},
        **{
            name: {**model["metrics"], **second["models"].get(name, {})} for name, model in comparison["models"].items()
        },
    }


def _differences(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each metric and pair of models."""
    return [
        {"metric": METRICS[name], "pair": pair, "cell": number(Estimate(**pair["difference"])).partition(" ")}
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
