"""Evaluations of several models on the same images -> table, figures, report, dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hfgen import metrics
from hfgen.comparison.crops import crops
from hfgen.comparison.differences import Features, differences, features_of, perception_distortion
from hfgen.comparison.exact_posteriors import ExactPosteriors
from hfgen.comparison.figures import CHARTS, charts
from hfgen.comparison.galleries import Gallery, first_images, galleries
from hfgen.comparison.judges import disagreements, second_judge
from hfgen.comparison.names import check_names
from hfgen.comparison.protocol import check_same_protocol, version_notes
from hfgen.comparison.reading import read
from hfgen.comparison.report import render
from hfgen.devices import choose
from hfgen.errors import SettingsError
from hfgen.evaluation.dataset import write_dataset
from hfgen.evaluation.result import Evaluation
from hfgen.files import write_bytes, write_json, write_text
from hfgen.outputs import check_no_evaluation
from hfgen.reporting.charts import encode, theme
from hfgen.reporting.pictures import MOST_IMAGES, png, sheet

SCHEMA = 1

_FIGURES = (*CHARTS, "crops", "disagreements", "worst_reconstructions", "oddest_samples")
"""Names of all figures that there can be, without those of posteriors."""


def compare(
    evaluations: dict[str, Evaluation],
    out: Path,
    *,
    costs: dict[str, dict[str, Any]] | None = None,
    exact: ExactPosteriors | None = None,
    device: str | torch.device = "auto",
) -> dict[str, Any]:
    """Write `out`/comparison.json, report.html, grid.png, figures/ and dataset/; return the comparison.

    `evaluations` by the names to show, in the order to show; all of the same images and one protocol. `costs`: by the
    same names, what `hfgen.evaluation.timing.measure_costs` measured of models that are at hand. `exact`: what their
    latents say, which the comparison has as `posterior`. Beside the records'
    numbers the comparison holds `differences` (see `hfgen.comparison.differences`), `second_judge` and the two judges'
    `disagreements` (see `hfgen.comparison.judges`), `perception_distortion` (by model that reconstructs), `galleries`
    (which rows are shown as failures), `notes` and `reading`, the numbers in words. The extractor and the metrics
    compute on `device`, one of `hfgen.devices.choose`.

    Raises:
        UserError: no model, a reserved name, records that differ in their data or their protocol, or `out` holds an
            evaluation.
    """
    compute = choose(device)
    check_no_evaluation(out)
    _check(evaluations)
    with metrics.measuring(compute):
        features = features_of(evaluations, compute.device)
        failures = [*crops(evaluations), *galleries(evaluations, features)]
        second = metrics.Collector("second judge: ")
        opinion = second_judge(evaluations, compute.device, second)
        comparison = _compare(evaluations, features, failures, costs or {}, opinion, second.notes)
    if exact is not None:
        comparison["posterior"] = exact.found
        comparison["notes"] += exact.notes
    sheets = {} if exact is None else exact.sheets
    comparison["reading"] = read(comparison)
    shown = first_images(evaluations)
    _clear(out)
    for name, draw in charts(comparison).items():
        with theme("light"):
            for kind in ("png", "svg"):
                write_bytes(out / "figures" / f"{name}.{kind}", encode(draw(comparison), kind))
    for gallery in failures:
        write_bytes(out / "figures" / f"{gallery.name}.png", png(sheet(gallery.strips, MOST_IMAGES)))
    for model, picture in sheets.items():
        write_bytes(out / "figures" / f"posterior_{model}.png", picture)
    write_bytes(out / "grid.png", png(sheet([row for group in shown for row in group])))
    write_dataset(_columns(evaluations), out / "dataset")
    write_text(out / "report.html", render(comparison, shown, failures, sheets))
    write_json(out / "comparison.json", comparison)
    return comparison


def _clear(out: Path) -> None:
    """Remove what an earlier comparison wrote that this one may not have; what others wrote stays."""
    for name in ("comparison.json", "report.html", "grid.png"):
        (out / name).unlink(missing_ok=True)
    for pattern in (*_FIGURES, "posterior_*"):
        for path in (out / "figures").glob(f"{pattern}.*"):
            path.unlink()


def _check(evaluations: dict[str, Evaluation]) -> None:
    if not evaluations:
        raise SettingsError("models: none given; name at least one")
    check_names(evaluations)
    check_same_protocol({name: evaluation.record for name, evaluation in evaluations.items()})
    (first, mine), *others = evaluations.items()
    for other, theirs in others:
        if not torch.equal(mine.originals, theirs.originals):
            raise SettingsError(
                f"original: the held-out images of {other} aren't those of {first}; evaluate both again"
            )


def _compare(
    evaluations: dict[str, Evaluation],
    features: Features | None,
    failures: list[Gallery],
    costs: dict[str, dict[str, Any]],
    opinion: dict[str, Any] | None,
    notes_of_second: list[str],
) -> dict[str, Any]:
    records = {name: evaluation.record for name, evaluation in evaluations.items()}
    # The models share the data and the protocol, hence also the real images' numbers.
    shared = next(iter(records.values()))
    spectrum = {"frequencies": shared["spectrum"]["frequencies"], "real": shared["spectrum"]["real"]}
    for name, record in records.items():
        kinds = ("reconstruction", "sample")
        spectrum[name] = {kind: record["spectrum"][kind] for kind in kinds if kind in record["spectrum"]}
    found = metrics.Collector("differences: ")
    gaps, plane = differences(evaluations, features, found), perception_distortion(evaluations, features, found)
    if opinion is not None:
        gaps |= opinion.pop("differences")
    notes = [*version_notes(records), *_record_notes(records), *found.notes, *notes_of_second]
    if not costs:
        notes.append("costs: not measured, these are finished evaluations")
    elif without := [name for name in records if name not in costs]:
        notes.append(f"costs: measured of models that are at hand, not of {', '.join(without)}")
    if features is None:
        notes.append("features: no extractor is at hand, so KID, coverage and perceptual distance have no differences")
    return {
        "schema": SCHEMA,
        "data": shared["data"],
        "protocol": shared["protocol"],
        "models": {name: _of_model(record) for name, record in records.items()},
        # Of a model that draws nothing, that of reconstructions alone.
        "baseline": {name: entry for record in records.values() for name, entry in record["baseline"].items()},
        "judge_power": shared.get("judge_power"),
        "second_judge": opinion,
        "spectrum": spectrum,
        "differences": gaps,
        "disagreements": disagreements(gaps),
        "perception_distortion": plane,
        "galleries": {gallery.name: gallery.chosen for gallery in failures},
        "costs": costs,
        "notes": notes,
    }


def _of_model(record: dict[str, Any]) -> dict[str, Any]:
    parts = ("model", "metrics", "latent", "reading", "precision", "tiles")
    return {part: record[part] for part in parts if part in record}


def _record_notes(records: dict[str, dict[str, Any]]) -> list[str]:
    """What the records note: once, where all of them do."""
    notes = {name: record.get("notes", []) for name, record in records.items()}
    shared = [note for note in next(iter(notes.values())) if all(note in of for of in notes.values())]
    return [*shared, *(f"{name}: {note}" for name, of in notes.items() for note in of if note not in shared)]


def _columns(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    shared = next(iter(evaluations.values()))
    columns: dict[str, Any] = {"original": shared.originals}
    for name, evaluation in evaluations.items():
        if evaluation.reconstructions is not None:
            columns[f"{name}_reconstruction"] = evaluation.reconstructions
        if evaluation.samples is not None:
            columns[f"{name}_sample"] = evaluation.samples
    if shared.labels is not None:
        columns["label"] = shared.labels.tolist()
    return columns
