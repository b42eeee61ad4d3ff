"""What a model's latents say exactly, of glyphs, by `hfgen study posterior`: a bound that no decoder is needed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.devices import Compute
from hfgen.diagnosis.attribution import EXACT
from hfgen.errors import SettingsError
from hfgen.evaluation.exact_posterior import read_entry
from hfgen.pipelines.given import given_id, opened

_DATA = "glyphs"
_METRICS, _POWERS = {"power_mean", "psnr_mean", "share_decoder"}, {"power_real", "power_mean"}


class Exact(NamedTuple):
    """An entry of posterior.json: E[x | z] of some held-out images, each given one draw z of its posterior.

    `powers` (M,): whose mean is the power of E[x | z] over that of the images, with the spread of their ratio.
    """

    entry: dict[str, Any]
    powers: Tensor

    @property
    def link(self) -> dict[str, Any]:
        """A stage's numbers, as diagnosis.json has them."""
        metrics = self.entry["metrics"]
        return {"stage": EXACT, "power": {"high": metrics["power_mean"]}, "psnr": metrics["psnr_mean"]}

    @property
    def facts(self) -> dict[str, Any]:
        """What diagnosis.json says of it: `share_decoder` of what the decoder's outputs lack is in the latent."""
        found = {name: self.entry[name] for name in ("n", "converged")}
        return {**found, "share_decoder": self.entry["metrics"]["share_decoder"]}

    @property
    def notes(self) -> list[str]:
        """What is to be known of it."""
        n, converged = self.entry["n"], self.entry["converged"]
        return [f"posterior: {n - converged} of {n} images didn't converge, and count"] if converged < n else []


def find_exact(
    place: str | Path, model: Any, data: str, compute: Compute, *, variant: str | None, resolution: int | None
) -> Exact:
    """Of MODEL at this resolution, from the folder of a posterior.json.

    Raises:
        UserError: it is of other weights, another resolution or other data; or it isn't there.
    """
    if data != _DATA:
        raise SettingsError(f"posterior: it is of {_DATA}, and the data are {data}; leave it out, or give {_DATA}")
    if variant is not None:
        raise SettingsError(f"posterior: it is of plain weights, and the variant is {variant}; leave one of them out")
    with opened(model, compute, resolution=resolution) as (pipeline, origin):
        side, weights = pipeline.sample_size, origin.facts().get("weights", "")
    entry = read_entry(Path(place), weights, side, given_id(model))
    if not entry["metrics"].keys() >= _METRICS or not all(image.keys() >= _POWERS for image in entry["images"]):
        raise SettingsError(f"posterior: {place} lacks powers of {given_id(model)}; run `hfgen study posterior` again")
    return Exact(entry, _relative(entry["images"]))


def _relative(images: list[dict[str, float]]) -> Tensor:
    """Of each image, r + (m - r x) / mean x, m its power of E[x | z], x its own, r the ratio of their means."""
    real, mean = (torch.tensor([one[name] for one in images]).double() for name in ("power_real", "power_mean"))
    ratio = mean.mean() / real.mean()
    return ratio + (mean - ratio * real) / real.mean()
