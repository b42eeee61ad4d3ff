"""A comparison's pictures: strips of images pixel by pixel, and figures drawn with Matplotlib."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from hfgen.evaluation import Evaluation
from hfgen.images import grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

MOST_IMAGES = 12
GAP = 2
_SHOWN_SIDE = 96
_SHEET_WIDTH = 800
_LABEL_HEIGHT = 26
_FONT_SIZE = 16
# Okabe & Ito's colours for all kinds of colour vision, without black and yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_WEAKEST = 1e-4
_HIGH_FREQUENCY = 0.25


@dataclass(frozen=True)
class Strip:
    """One row of pictures: uint8 (N, C, R, R), N at most 12."""

    label: str
    images: Tensor


def strips(evaluations: dict[str, Evaluation]) -> list[Strip]:
    """The first held-out images, their reconstructions model by model, then as many samples of each model."""
    originals = next(iter(evaluations.values())).originals
    rows = [Strip("real, held out", originals)]
    rows += [
        Strip(f"{name}: reconstructions", evaluation.reconstructions)
        for name, evaluation in evaluations.items()
        if evaluation.reconstructions is not None
    ]
    rows += [Strip(f"{name}: samples", evaluation.samples) for name, evaluation in evaluations.items()]
    return [Strip(row.label, row.images[:MOST_IMAGES]) for row in rows]


def zoom_for(resolution: int) -> int:
    """The whole number of screen pixels per pixel that brings an image's side nearest to 96."""
    return max(1, round(_SHOWN_SIDE / resolution))


def strip_picture(strip: Strip, columns: int = MOST_IMAGES) -> Image.Image:
    """The strip's first images in one row."""
    images = strip.images[:columns]
    return grid(images, len(images), zoom_for(images.shape[-1]), GAP)


def sheet(rows: list[Strip]) -> Image.Image:
    """All strips under their labels, as many columns as 800 pixels hold."""
    from PIL import Image, ImageDraw, ImageFont

    resolution = rows[0].images.shape[-1]
    columns = max(1, (_SHEET_WIDTH + GAP) // (resolution * zoom_for(resolution) + GAP))
    pictures = [strip_picture(row, columns) for row in rows]
    font = ImageFont.load_default(_FONT_SIZE)
    widths = [picture.width for picture in pictures] + [round(font.getlength(row.label)) for row in rows]
    height = _LABEL_HEIGHT + pictures[0].height
    page = Image.new("RGB", (max(widths), height * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for index, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        draw.text((0, index * height + _LABEL_HEIGHT - 5), row.label, fill="black", font=font, anchor="ls")
        page.paste(picture, (0, index * height + _LABEL_HEIGHT))
    return page


def encode(picture: Figure | Image.Image, kind: str = "png") -> bytes:
    """PNG or, of a figure, `svg`; the same bytes whenever the same picture is encoded."""
    import matplotlib
    from PIL import Image

    buffer = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(buffer, format=kind)
    else:
        with matplotlib.rc_context({"svg.hashsalt": "hfgen"}):
            picture.savefig(buffer, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def spectra(comparison: dict[str, Any]) -> Figure:
    """Power by frequency relative to real, one colour a model: samples solid, reconstructions dashed."""
    spectrum = comparison["spectrum"]
    figure, axes = _new_figure(height=4.2)
    axes.axvspan(_HIGH_FREQUENCY, 0.5, color="0.94", zorder=0)
    axes.axhline(1, color="black", lw=1)
    extremes = [1.0]
    for line in _lines(comparison):
        ratios = relative_power(spectrum[line.model][line.kind], spectrum["real"])
        extremes += [ratio for ratio in ratios if ratio > 0]
        dashes = "-" if line.kind == "sample" else "--"
        style: dict[str, Any] = {"color": line.colour, "marker": line.marker, "ms": 3.5, "label": line.label}
        axes.plot(spectrum["frequencies"], ratios, dashes, **style)
    axes.set_yscale("log")
    # At least a decade, so that the ticks have labels.
    axes.set_ylim(max(_WEAKEST, min(0.1, *extremes) / 1.3), max(2.0, *extremes) * 1.3)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("frequency (cycles per pixel; grey: high)")
    axes.set_ylabel("power relative to real (black: equal)")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def relative_power(power: list[float], real: list[float]) -> list[float]:
    """Band by band; NaN where the real images have none."""
    return [p / r if r > 0 else float("nan") for p, r in zip(power, real, strict=True)]


def high_frequency(comparison: dict[str, Any]) -> Figure:
    """The high-frequency ratios with their intervals: samples filled, reconstructions open."""
    lines = _lines(comparison)
    figure, axes = _new_figure(height=1.2 + 0.36 * len(lines))
    real = comparison["baseline"]["hf_ratio_sample"]
    axes.axvspan(real["low"], real["high"], color="0.85", zorder=0)
    axes.axvline(1, color="black", lw=1)
    for row, line in enumerate(lines):
        ratio = comparison["models"][line.model]["metrics"][f"hf_ratio_{line.kind}"]
        face = line.colour if line.kind == "sample" else "white"
        # The markers of small ratios reach over the axis.
        style: dict[str, Any] = {"color": line.colour, "clip_on": False}
        axes.plot([ratio["low"], ratio["high"]], [row, row], marker="|", ms=11, lw=2, **style)
        axes.plot(ratio["value"], row, marker=line.marker, mfc=face, ms=6, **style)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("high-frequency power relative to real\n(black: equal; grey: other real images)")
    return figure


class _Line(NamedTuple):
    model: str
    kind: str
    colour: str
    marker: str

    @property
    def label(self) -> str:
        return f"{self.model}, {self.kind}s"


def _lines(comparison: dict[str, Any]) -> list[_Line]:
    """Each model's reconstructions, where it has any, and samples; colour and marker are the model's."""
    return [
        _Line(name, kind, _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)])
        for index, name in enumerate(comparison["models"])
        for kind in ("reconstruction", "sample")
        if kind in comparison["spectrum"][name]
    ]


def _new_figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
