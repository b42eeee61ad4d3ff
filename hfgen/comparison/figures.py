"""A comparison's charts, drawn with Matplotlib for light or dark pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hfgen.reporting.charts import ink, legend, model_style, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHADE: dict[str, Any] = {"alpha": 0.18, "color": "#808080", "lw": 0, "zorder": 0}
_WEAKEST = 1e-4
_HIGH_FREQUENCY = 0.25


def spectra(comparison: dict[str, Any]) -> Figure:
    """Power by frequency relative to real, one colour a model: samples solid, reconstructions dashed."""
    spectrum = comparison["spectrum"]
    figure, axes = _new_figure(height=4.2)
    axes.axvspan(_HIGH_FREQUENCY, 0.5, **_SHADE)
    axes.axhline(1, color=ink(), lw=1)
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
    axes.set_ylabel("power relative to real (line: equal)")
    legend(figure)
    return figure


def relative_power(power: list[float], real: list[float]) -> list[float]:
    """Band by band; NaN where the real images have none."""
    return [p / r if r > 0 else float("nan") for p, r in zip(power, real, strict=True)]


def ends_of_spectra(comparison: dict[str, Any]) -> str:
    """What each line of `spectra` begins and ends with, in words."""
    spectrum = comparison["spectrum"]
    return "; ".join(
        f"{name}, {kind}s: {ratios[0]:.2g} to {ratios[-1]:.2g}"
        for name in comparison["models"]
        for kind, power in spectrum[name].items()
        for ratios in [relative_power(power, spectrum["real"])]
    )


def high_frequency(comparison: dict[str, Any]) -> Figure:
    """The high-frequency ratios with their intervals: samples filled, reconstructions open."""
    lines = _with_ratio(comparison)
    figure, axes = _new_figure(height=1.2 + 0.36 * len(lines))
    if real := comparison["baseline"].get("hf_ratio_sample"):
        axes.axvspan(real["low"], real["high"], **_SHADE)
    axes.axvline(1, color=ink(), lw=1)
    for row, line in enumerate(lines):
        ratio = comparison["models"][line.model]["metrics"][f"hf_ratio_{line.kind}"]
        face = line.colour if line.kind == "sample" else axes.get_facecolor()
        # The markers of small ratios reach over the axis.
        style: dict[str, Any] = {"color": line.colour, "clip_on": False}
        axes.plot([ratio["low"], ratio["high"]], [row, row], marker="|", ms=11, lw=2, **style)
        axes.plot(ratio["value"], row, marker=line.marker, mfc=face, ms=6, **style)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlim(left=0)
    # Long names leave little room: the label ends with the axis and begins below them.
    axes.set_xlabel("high-frequency power relative to real\n(line: equal; grey: other real images)", loc="right")
    return figure


def perception_distortion(comparison: dict[str, Any]) -> Figure:
    """Reconstructions by MSE and KID, with both intervals; open: twice the MSE at a KID of 0.

    Of the same code a decoder exists whose images are distributed as real ones and whose MSE is at most twice the
    least possible one (Blau & Michaeli 2018), which the measured MSE bounds from above.
    """
    figure, axes = _new_figure(height=4.2)
    axes.axhline(0, color=ink(), lw=1)
    for name, point in comparison["perception_distortion"].items():
        mse, kid = point["mse"], point["kid"]
        colour, marker = model_style(comparison["models"], name)
        bound = 2 * mse["value"]
        axes.plot([mse["value"], bound], [kid["value"], 0], ":", color=colour, lw=1.6)
        axes.plot(bound, 0, marker=marker, mfc=axes.get_facecolor(), color=colour, ms=7, clip_on=False, zorder=3)
        errors = [[[axis["value"] - axis["low"]], [axis["high"] - axis["value"]]] for axis in (mse, kid)]
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 6, "capsize": 3, "label": name}
        axes.errorbar(mse["value"], kid["value"], yerr=errors[1], xerr=errors[0], ls="", **style)
    axes.set_xlim(left=0)
    axes.set_xlabel("distortion: mean squared error (white = 1)")
    axes.set_ylabel("perception: KID of the reconstructions\n(line: as real images)")
    legend(figure)
    return figure


def reading(comparison: dict[str, Any]) -> Figure:
    """The share of letters that are read in reconstructions, by their height; grey: in the originals."""
    figure, axes = _new_figure(height=4.2)
    for index, (name, model) in enumerate(_read_by(comparison).items()):
        section = model["reading"]
        heights = section["heights"]
        if not index:
            shares = [point["value"] for point in section["original"]]
            axes.plot(heights, shares, "--", color="#808080", lw=1.6, label="originals")
        colour, marker = model_style(comparison["models"], name)
        points = section["reconstruction"]
        values = [point["value"] for point in points]
        below, above = ([abs(point["value"] - point[end]) for point in points] for end in ("low", "high"))
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "capsize": 2, "lw": 1.6, "label": name}
        axes.errorbar(heights, values, yerr=[below, above], **style)
    axes.set_xscale("log")
    ticks = heights[:: 2 if len(heights) > 8 else 1]
    axes.set_xticks(ticks, [str(height) for height in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("height of capitals (pixels)")
    axes.set_ylabel("share of letters read")
    legend(figure)
    return figure


def _read_by(comparison: dict[str, Any]) -> dict[str, Any]:
    """The models that were given lines of text."""
    return {name: model for name, model in comparison["models"].items() if "reading" in model}


def rate_distortion(comparison: dict[str, Any]) -> Figure:
    """PSNR of reconstructions, with its interval, by the bits of the latent for each pixel."""
    from matplotlib.ticker import LogLocator

    figure, axes = _new_figure(height=4.2)
    for name, model in _with_bits(comparison).items():
        colour, marker = model_style(comparison["models"], name)
        psnr = model["metrics"]["psnr"]
        spread = [[psnr["value"] - psnr["low"]], [psnr["high"] - psnr["value"]]]
        style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 7, "capsize": 3, "ls": "", "label": name}
        axes.errorbar(model["latent"]["bits_per_pixel"], psnr["value"], yerr=spread, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    bits = [model["latent"]["bits_per_pixel"] for model in _with_bits(comparison).values()]
    # Far enough that two ticks have labels.
    axes.set_xlim(min(bits) / 2, 2 * max(bits))
    axes.set_xlabel("rate: bits of the latent a pixel")
    axes.set_ylabel("PSNR (dB)")
    legend(figure)
    return figure


def _with_bits(comparison: dict[str, Any]) -> dict[str, Any]:
    """The models whose latent has a rate above 0."""
    return {
        name: model
        for name, model in comparison["models"].items()
        if model.get("latent", {}).get("bits_per_pixel", 0) > 0 and "psnr" in model["metrics"]
    }


def costs(comparison: dict[str, Any]) -> Figure:
    """Bars from zero of the median time an image, with the lowest and the highest of the batches."""
    rows = [
        (name, kind, cost[kind]["milliseconds_per_image"])
        for name, cost in comparison["costs"].items()
        for kind in ("reconstruction", "sampling")
        if kind in cost
    ]
    figure, axes = _new_figure(height=1.1 + 0.36 * len(rows))
    for row, (name, kind, each) in enumerate(rows):
        colour, _ = model_style(comparison["models"], name)
        face = colour if kind == "sampling" else axes.get_facecolor()
        spread = [[each["median"] - each["lowest"]], [each["highest"] - each["median"]]]
        axes.barh(row, each["median"], height=0.6, color=face, edgecolor=colour, lw=1.5)
        axes.errorbar(each["median"], row, xerr=spread, ecolor=ink(), capsize=4, lw=1.2, ls="")
    axes.set_yticks(range(len(rows)), [f"{name}, {kind}" for name, kind, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds an image", loc="right")
    return figure


def charts(comparison: dict[str, Any]) -> dict[str, Callable[[dict[str, Any]], Figure]]:
    """The charts that this comparison has the numbers for, by the names of their files."""
    drawn: list[Callable[[dict[str, Any]], Figure]] = [spectra]
    if _with_ratio(comparison):
        drawn.append(high_frequency)
    if comparison["perception_distortion"]:
        drawn.append(perception_distortion)
    if _read_by(comparison):
        drawn.append(reading)
    if len(_with_bits(comparison)) > 1:
        drawn.append(rate_distortion)
    if comparison["costs"]:
        drawn.append(costs)
    return {draw.__name__: draw for draw in drawn}


CHARTS = tuple(
    draw.__name__ for draw in (spectra, high_frequency, perception_distortion, reading, rate_distortion, costs)
)
"""Names of all charts that there can be."""


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
        _Line(name, kind, *model_style(comparison["models"], name))
        for name in comparison["models"]
        for kind in ("reconstruction", "sample")
        if kind in comparison["spectrum"][name]
    ]


def _with_ratio(comparison: dict[str, Any]) -> list[_Line]:
    """Those of the lines whose high-frequency ratio is defined."""
    models = comparison["models"]
    return [line for line in _lines(comparison) if f"hf_ratio_{line.kind}" in models[line.model]["metrics"]]


def _new_figure(height: float) -> tuple[Figure, Axes]:
    figure, (axes,) = new_axes(1, 4.5, height)
    return figure, axes
