"""The figure of the exact answer: rows of real / E[x | z] / decoder / posterior draw, and the shares as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hfgen.images import unit_to_uint8
from hfgen.reporting.charts import ink, new_axes, palette
from hfgen.reporting.pictures import MOST_IMAGES, Strip, png, sheet
from hfgen.studies.posterior.exact_answer import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHARES = {"share_latent": "the latent doesn't say it", "share_decoder": "the decoder doesn't read it"}
_POWERS = {"power_mean": "E[x | z]", "power_decoder": "decoder", "power_draw": "posterior draw"}


def sheet_of(answers: Sequence[Answer]) -> bytes:
    """Of the first images, converged or not, as PNG."""
    shown = answers[:MOST_IMAGES]
    draws = torch.stack([one.draws[0] for one in shown])
    return png(sheet([*_strips(shown), Strip("a draw of x given z", draws)]))


def sheet_of_decoders(answers: Sequence[Answer], decoded: Mapping[str, Tensor]) -> bytes:
    """The same images, and what other decoders make of their latents, (N, 1, R, R) in [0, 1] by name, as PNG."""
    shown = answers[:MOST_IMAGES]
    others = [Strip(name, unit_to_uint8(images[: len(shown)])) for name, images in decoded.items()]
    return png(sheet([*_strips(shown), *others]))


def _strips(shown: Sequence[Answer]) -> list[Strip]:
    real = torch.stack([one.original for one in shown])
    means = unit_to_uint8(torch.stack([one.means.mean(0, keepdim=True) for one in shown]))
    decoded = unit_to_uint8(torch.stack([one.decoded for one in shown]))
    lost = sum(not one.numbers["converged"] for one in shown)
    note = f" ({lost} of {len(shown)} didn't converge)" if lost else ""
    return [
        Strip("real image x", real),
        Strip(f"E[x | z], exact{note}", means),
        Strip("the model's decoder at z", decoded),
    ]


def draw(models: Sequence[dict[str, Any]]) -> Figure:
    """Powers of the three, and the parts of what the decoder lacks, for each model."""
    figure, (powers, shares) = new_axes(2, width=3.2 + 0.8 * len(models), height=3.4)
    names = [f"{model['name']}\n{model['converged']} of {model['n']}" for model in models]
    for axes, kinds in ((powers, _POWERS), (shares, _SHARES)):
        _bars(axes, [model["metrics"] for model in models], kinds)
        axes.set_xticks(range(len(models)), names)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(kinds))
    powers.axhline(1, color=ink(), lw=0.8, ls=":")
    powers.set_ylabel("power above .25 cycles/pixel, of real")
    shares.set_ylabel("share of the decoder's missing power")
    return figure


def _bars(axes: Axes, models: Sequence[dict[str, Any]], kinds: dict[str, str]) -> None:
    width = 0.8 / len(kinds)
    for place, (name, label) in enumerate(kinds.items()):
        colour, _ = palette(place)
        at = [index + width * (place - (len(kinds) - 1) / 2) for index in range(len(models))]
        found = [metrics[name] for metrics in models]
        axes.bar(at, [one["value"] for one in found], 0.9 * width, color=colour, label=label)
        for where, one in zip(at, found, strict=True):
            axes.plot([where, where], [one["low"], one["high"]], color=ink(), lw=1.2)
