"""The waterfall of causes, and the gallery of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hfgen.images import grid
from hfgen.reporting.charts import ink, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

# Okabe and Ito's colours: power that is lost, power that comes back, and power that is there.
_LOST, _GAINED, _THERE = "#D55E00", "#56B4E9", "#0072B2"
_ORDER = (
    "data",
    "bottleneck",
    "unread",
    "network",
    "encoder",
    "noise",
    "codes",
    "decoder",
    "generator_training",
    "generator",
    "unexplained",
    "prior_training",
    "prior",
)
_LABELS = {
    "data": "data itself blurred",
    "bottleneck": "the latent's size, at most",
    "unread": "in the latent, not read",
    "network": "network (training, width)",
    "encoder": "under-trained encoder",
    "noise": "posterior noise",
    "codes": "quantisation",
    "decoder": "under-trained decoder",
    "generator_training": "generator's training",
    "generator": "generator",
    "unexplained": "unexplained",
    "prior_training": "prior's training",
    "prior": "prior mismatch",
}


def waterfall(document: Mapping[str, Any]) -> Figure:
    """From the power of sharp images down to what the model's images have, a bar a cause with its interval."""
    causes = document["causes"]
    names = [name for name in _ORDER if name in causes]
    figure, (axes,) = new_axes(1, 5.4, 1.6 + 0.36 * len(names))
    _bar(axes, 0, 0.0, 1.0, _THERE)
    level = 1.0
    for row, name in enumerate(names, 1):
        entry = causes[name]
        value = entry["value"]
        _bar(axes, row, level - value, level, _LOST if value >= 0 else _GAINED)
        # The interval of the cause, at the end that moves with it.
        axes.plot([level - entry["high"], level - entry["low"]], [row, row], color=ink(), lw=1.5, clip_on=False)
        axes.annotate(f"{value:.0%}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        level -= value
    _bar(axes, len(names) + 1, 0.0, level, _THERE)
    reached = "samples" if any(link["stage"] == "prior_sample" for link in document["chain"]) else "reconstructions"
    labels = ["images as sharp as pixels allow", *(_LABELS[name] for name in names), f"the model's {reached}"]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if level < 0 else 0.0)
    axes.set_xlabel("high-frequency power (lines: 95 % intervals)")
    if document.get("bands"):
        gain = document["bands"]["high"]["gain"]
        title = (
            f"gain of the high frequencies {gain['value']:.2f} [{gain['low']:.2f}, {gain['high']:.2f}] (1: averaged)"
        )
        figure.suptitle(title, fontsize=9)
    return figure


def _bar(axes: Any, row: int, left: float, right: float, colour: str) -> None:
    axes.barh(row, right - left, left=left, height=0.62, color=colour)


def missing_gallery(document: Mapping[str, Any], images: Tensor) -> Image.Image:
    """A row of held-out images (n, C, R, R) for each class or cluster that samples leave out, the largest first."""
    rows = [group["members"] for group in document["variety"]["missing"]]
    columns = max(map(len, rows))
    blank = torch.full_like(images[:1], 255)
    sheet = [torch.cat([images[members], blank.expand(columns - len(members), -1, -1, -1)]) for members in rows]
    return grid(torch.cat(sheet), columns, zoom=max(1, 64 // images.shape[-1]))
