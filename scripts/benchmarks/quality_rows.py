"""What is measured of each model: pixels once, samples by both judges; and the sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from benchmarks.budget import Made
from hfgen import metrics
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.images import grid, write_picture
from hfgen.metrics import Estimate
from hfgen.metrics.intervals import wilson

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.evaluation.held_out import HeldOut

Estimates = dict[str, Estimate]

OF_PIXELS = {
    "psnr": "PSNR",
    "power": "power",
    "gain": "gain",
    "coherence": "coherence",
    "power_samples": "power, samples",
}
OF_A_JUDGE = {
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "training_distance": "distance to training images",
    "class_share": "own class",
}
_COLUMNS, _SHOWN = 16, 64


@dataclass
class Row:
    """A model's numbers: of pixels, and by each judge."""

    name: str
    facts: dict[str, Any]
    pixels: Estimates
    independent: Estimates
    own: Estimates
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {"pixels": self.pixels, "independent_judge": self.independent, "own_judge": self.own}
        values = {part: {name: value.as_dict() for name, value in found.items()} for part, found in parts.items()}
        return {"facts": self.facts, **values, "notes": self.notes}


class Judges(NamedTuple):
    """The real images, seen by the judge that is reported, and by hfgen's own, by which its settings were chosen."""

    independent: HeldOut
    own: HeldOut


def measure(name: str, made: Made, judges: Judges) -> Row:
    """Of what a model made."""
    found, real, samples, reconstructions = metrics.Collector(), judges.independent, made.samples, made.reconstructions
    if reconstructions is not None:
        scores = metrics.capped_psnr(real.images, reconstructions).double()
        found.add("psnr", lambda: metrics.bootstrap_mean(scores, seed=0))
        found.add("gain, coherence, power", lambda: _high_band(real, reconstructions))
    power = metrics.power_spectrum(samples, real.window).high
    found.add("power_samples", lambda: metrics.bootstrap_ratio(power, real.spectrum.high, seed=0, paired=False))
    seen = [metrics.Collector(f"{judge.extractor.id}: ") for judge in judges]
    for judge, by in zip(judges, seen, strict=True):
        _by_judge(by, judge, samples, made.wanted)
    notes = [note for collector in (found, *seen) for note in collector.notes]
    return Row(name, made.facts, found.estimates, seen[0].estimates, seen[1].estimates, notes)


def other_real(judges: Judges) -> Row:
    """Training images in the samples' place, and held-out images that each judge takes for their class."""
    real = judges.independent
    row = measure("other real images", Made(0, 0, real.others, None), judges)
    for judge, found in zip(judges, (row.independent, row.own), strict=True):
        # They are the training images.
        found.pop("training_distance", None)
        if (known := real.labels) is not None and (share := class_share(judge, real.images, known)) is not None:
            found["class_share"] = share
    return replace(row, facts={})


def class_share(judge: HeldOut, images: Tensor, wanted: Tensor) -> Estimate | None:
    """The share of images (n,) that the judge takes for the class that was wanted; None where it tells no classes."""
    counts = judge.extractor.mode_counts
    if counts is None or len(counts) <= int(wanted.max()):
        return None
    return wilson(float((judge.extractor.modes(images) == wanted).double().mean()), len(wanted))


def _by_judge(found: metrics.Collector, judge: HeldOut, samples: Tensor, wanted: Tensor | None) -> None:
    features = judge.extractor.features(samples)
    found.add("kid", lambda: metrics.kernel_distance_interval(judge.features, features))
    found.add("neighbours", lambda: metrics.prdc_intervals(judge.features, features, NEIGHBOURS, seed=0))
    # Against all training images: a copy of any of them is one.
    found.add(
        "training_distance",
        lambda: metrics.copying(judge.own_distances, judge.training_distances(features), seed=0),
    )
    if wanted is not None and (share := class_share(judge, samples, wanted)) is not None:
        found.estimates["class_share"] = share


def _high_band(real: HeldOut, reconstructions: Tensor) -> Estimates:
    band = metrics.band_measures(real.images, reconstructions, real.window).estimates(seed=0)["high"]
    return {"gain": band.gain, "coherence": band.coherence, "power": band.power}


def cells(found: Estimates, names: dict[str, str]) -> str:
    """A table's cells."""
    return " | ".join(cell(found[name]) if name in found else "-" for name in names)


def cell(value: Estimate) -> str:
    """A value and its interval, three digits each."""
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def header(first: tuple[str, ...], names: dict[str, str]) -> str:
    """Of a table, with its rule."""
    columns = (*first, *names.values())
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def table(rows: list[Row], of: Callable[[Row], Estimates], names: dict[str, str]) -> str:
    """A row a model."""
    lines = [f"| {row.name} | {cells(of(row), names)} |" for row in rows]
    return "\n".join([header(("model",), names), *lines])


def write_sheet(path: Path, originals: Tensor, made: Made) -> None:
    """A picture: originals above their reconstructions, then samples, 16 a row."""
    again = made.reconstructions
    parts = [] if again is None else [originals[:_COLUMNS], again[:_COLUMNS]]
    images = torch.cat([*parts, made.samples[:_SHOWN]])
    write_picture(path, grid(images, columns=_COLUMNS, zoom=max(1, 64 // images.shape[-1])))
