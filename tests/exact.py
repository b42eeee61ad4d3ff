"""A posterior.json as `hfgen study posterior` leaves it, with the pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from hfgen.documents import POSTERIOR
from hfgen.reporting.exact_answers import sheet_name

BUDGET = {"name": "full", "n": 4, "points": 1, "particles": 1, "sweeps": 1, "attempts": 1}
METRICS = {
    "share_latent": {"value": 0.25, "low": 0.2, "high": 0.3, "n": 4},
    "share_decoder": {"value": 0.75, "low": 0.7, "high": 0.8, "n": 4},
    "psnr_mean": {"value": 30.0, "low": 29.0, "high": 31.0, "n": 4},
}
SENTENCE = (
    "Of the fine detail that the decoder lacks: 25 % [20, 30] isn't in the latent; 75 % [70, 80] is in the latent, but "
    "the decoder doesn't show it."
)
"""What is said of these metrics."""


def write_posterior(folder: Path, models: Mapping[str, str], *, resolution: int = 16, converged: int = 4) -> Path:
    """Of models by name, each with the hash of its weights; the picture is as wide as the name is long. `folder`."""
    facts: dict[str, Any] = {"resolution": resolution, "n": 4, "converged": converged, "metrics": METRICS}
    facts["images"] = [{"chi": 1.0}]
    entries = [{"name": name, "id": name, "weights": weights, **facts} for name, weights in models.items()]
    document = {"schema": POSTERIOR.version, "budget": BUDGET, "seed": 0, "versions": {}, "models": entries}
    POSTERIOR.write(folder / "posterior.json", document)
    (folder / "figures").mkdir()
    for entry in entries:
        Image.new("L", (len(entry["name"]), 8)).save(folder / "figures" / sheet_name(entry))
    return folder
