"""posterior.json of `hfgen study posterior`: which of its entries is of a model, known by its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfgen.documents import POSTERIOR
from hfgen.errors import SettingsError

FILE = "posterior.json"


def entry_of(document: Mapping[str, Any], weights: str, resolution: int) -> dict[str, Any] | None:
    """The entry of a posterior.json that is of a model's weights at this resolution; None where there is none.

    `weights`: by `hfgen.pipelines.weight_digest`. Where several entries are of it, that of the most images.
    """
    found = [
        entry for entry in document["models"] if (entry.get("weights"), entry["resolution"]) == (weights, resolution)
    ]
    return max(found, key=lambda entry: entry["n"], default=None)


def file_at(place: Path) -> Path:
    """The posterior.json that is given by itself, or by its folder."""
    return place if place.suffix == ".json" and not place.is_dir() else place / FILE


def read_entry(place: Path, weights: str, resolution: int, called: str) -> dict[str, Any]:
    """The same of a posterior.json, or of the folder that holds one; `called`: the model's name, for errors.

    Raises:
        UserError: there is none, or none of its entries is of this model at this resolution.
    """
    path = file_at(place)
    document = POSTERIOR.read(path)
    entry = entry_of(document, weights, resolution)
    if entry is not None:
        return entry
    again = f"`hfgen study posterior {called} --out {path.parent}`"
    if any("weights" not in each for each in document["models"]):
        raise SettingsError(
            f"posterior: {path} doesn't say which weights it is of; run {again} again, which keeps its images' answers"
        )
    there = ", ".join(f"{each['name']} at {each['resolution']} px" for each in document["models"])
    raise SettingsError(
        f"posterior: {path} is of {there}, and none has the weights of {called} at {resolution} px; run {again}"
    )
