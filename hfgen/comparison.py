"""Evaluations of several models on the same images -> table, figures, report, dataset."""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.evaluation import Evaluation, write_dataset
from hfgen.figures import encode, high_frequency, sheet, spectra, strips
from hfgen.files import write_bytes, write_json, write_text
from hfgen.images import to_pil
from hfgen.reading import read
from hfgen.report import render

SCHEMA = 1
# The first difference found is reported, so causes stand before what they change.
_SAME = (
    "data.resolution",
    "data.split",
    "data.fingerprint",
    "data.n",
    "protocol.seed",
    "protocol.neighbours",
    "protocol.extractor.sha256",
)
# Names in comparison.json's `spectrum`, and folders beside those of the models.
_RESERVED = ("frequencies", "real", "dataset", "figures")


def compare(evaluations: dict[str, Evaluation], out: Path) -> dict[str, Any]:
    """Write `out`/comparison.json, report.html, grid.png, figures/ and dataset/; return the comparison.

    `evaluations` by the names to show, in the order to show; all of the same images and one protocol.
    `differences` holds, for each pair of models that reconstruct, the mean over the images of the first's
    PSNR minus the second's, in dB; a tie's interval contains 0.

    Raises:
        UserError: no model, a reserved name, or records that differ in their data or their protocol.
    """
    _check(evaluations)
    comparison = _compare(evaluations)
    comparison["reading"] = read(comparison)
    rows = strips(evaluations)
    for draw in (spectra, high_frequency):
        for kind in ("png", "svg"):
            write_bytes(out / "figures" / f"{draw.__name__}.{kind}", encode(draw(comparison), kind))
    write_bytes(out / "grid.png", encode(sheet(rows)))
    write_dataset(_columns(evaluations), out / "dataset")
    write_text(out / "report.html", render(comparison, rows))
    write_json(out / "comparison.json", comparison)
    return comparison


def _check(evaluations: dict[str, Evaluation]) -> None:
    if not evaluations:
        raise UserError("models: none given; name at least one")
    for name in evaluations:
        if name in _RESERVED:
            raise UserError(f"models: {name} can't be a model's name here; rename its folder")
    first, *others = evaluations
    for field in _SAME:
        for other in others:
            mine, theirs = (_field(evaluations[name].record, field) for name in (first, other))
            if mine != theirs:
                raise UserError(
                    f"{field}: {mine} of {first}, but {theirs} of {other}; "
                    "evaluate both alike, with one `hfgen compare`"
                )


def _field(record: dict[str, Any], path: str) -> Any:
    return reduce(lambda value, key: value[key], path.split("."), record)


def _compare(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    records = {name: evaluation.record for name, evaluation in evaluations.items()}
    # The models share the data and the protocol, hence also the real images' numbers.
    shared = next(iter(records.values()))
    spectrum = {"frequencies": shared["spectrum"]["frequencies"], "real": shared["spectrum"]["real"]}
    for name, record in records.items():
        kinds = ("reconstruction", "sample")
        spectrum[name] = {kind: record["spectrum"][kind] for kind in kinds if kind in record["spectrum"]}
    return {
        "schema": SCHEMA,
        "data": shared["data"],
        "protocol": shared["protocol"],
        "models": {name: {"model": record["model"], "metrics": record["metrics"]} for name, record in records.items()},
        "baseline": shared["baseline"],
        "spectrum": spectrum,
        "differences": {"psnr": _psnr_differences(evaluations, shared["protocol"]["seed"])},
    }


def _psnr_differences(evaluations: dict[str, Evaluation], seed: int) -> list[dict[str, Any]]:
    """Image by image, which cancels what makes an image hard for every model."""
    scores = {
        name: metrics.capped_psnr(evaluation.originals, evaluation.reconstructions)
        for name, evaluation in evaluations.items()
        if evaluation.reconstructions is not None
    }
    differences = []
    for first, second in combinations(scores, 2):
        estimate = metrics.bootstrap_mean(scores[first] - scores[second], seed=seed)
        tie = estimate.low <= 0 <= estimate.high
        differences.append({"first": first, "second": second, "difference": estimate.as_dict(), "tie": tie})
    return differences


def _columns(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    shared = next(iter(evaluations.values()))
    columns: dict[str, Any] = {"original": to_pil(shared.originals)}
    for name, evaluation in evaluations.items():
        if evaluation.reconstructions is not None:
            columns[f"{name}_reconstruction"] = to_pil(evaluation.reconstructions)
        columns[f"{name}_sample"] = to_pil(evaluation.samples)
    if shared.labels is not None:
        columns["label"] = shared.labels.tolist()
    return columns
