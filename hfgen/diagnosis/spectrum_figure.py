"""Power relative to real images by frequency, with what is too much and what is missing marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.reporting.charts import ink, new_axes, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXCESS, _MISSING = 1.15, 0.85
_ORANGE, _BLUE = "#D55E00", "#56B4E9"
_RING = 1 / 32
_FLOOR, _CEILING = 1e-2, 1e2


def relative_powers(real: Tensor, images: Tensor, window: metrics.Window) -> tuple[Tensor, Tensor]:
    """Frequencies (B,) in cycles/pixel, the corners' rings beyond .5 among them, and powers relative to real (B,)."""
    spectra = [metrics.power_spectrum(part, window) for part in (real, images)]
    means = [torch.cat([each.bands.mean(0), each.corner_bands.mean(0)]) for each in spectra]
    rings = 0.5 + _RING * (torch.arange(spectra[0].corner_bands.shape[1]) + 0.5)
    frequencies = torch.cat([spectra[0].frequencies, rings.to(spectra[0].frequencies)])
    return frequencies, means[1] / means[0].clamp_min(1e-15)


def spectrum_chart(real: Tensor, made: dict[str, Tensor], window: metrics.Window) -> Figure:
    """A line for each of the sets `made`, uint8 (N, C, R, R), by its label; excess is orange, what is missing blue."""
    figure, (axes,) = new_axes(1, 4.8, 3.4)
    for index, (label, images) in enumerate(made.items()):
        frequencies, ratio = (part.numpy() for part in relative_powers(real, images, window))
        ratio = ratio.clip(_FLOOR, _CEILING)
        colour, marker = palette(index)
        axes.plot(frequencies, ratio, color=colour, marker=marker, ms=3, label=label)
        axes.fill_between(frequencies, 1, ratio, where=ratio > _EXCESS, color=_ORANGE, alpha=0.45, lw=0)
        axes.fill_between(frequencies, ratio, 1, where=ratio < _MISSING, color=_BLUE, alpha=0.35, lw=0)
    axes.axhline(1, color=ink(), lw=1, ls=":")
    axes.axvline(0.5, color=ink(), lw=0.5, ls=":")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("frequency (cycles per pixel; beyond 0.5: the corners)")
    axes.set_ylabel("power relative to real")
    axes.legend(frameon=False, fontsize=8)
    return figure
