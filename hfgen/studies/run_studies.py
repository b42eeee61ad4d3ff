"""Claims -> cells, trained and measured once -> verdicts, study.json, report.html."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from hfgen.data import open_store
from hfgen.data_options import DEFAULT_DATA
from hfgen.devices import Compute, choose
from hfgen.documents import RECORD, STUDY
from hfgen.errors import UserError
from hfgen.evaluation.held_out import choose_n
from hfgen.files import read_json, write_bytes, write_json, write_text
from hfgen.reporting.charts import encode, theme
from hfgen.reporting.numbers import estimates
from hfgen.studies import (
    bottleneck,
    critic,
    dropped_modes,
    interpolation,
    likelihood,
    limited_codebook,
    loss,
    noise,
    translation,
)
from hfgen.studies.cells import BUDGETS, RESOLUTION, Budget, Columns, Trained, cell_folder, config_of, make
from hfgen.studies.claims import Measured, Results, Study, in_words, over_seeds
from hfgen.studies.page import draw, render
from hfgen.training.config import RunConfig

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        bottleneck,
        loss,
        noise,
        limited_codebook,
        likelihood,
        dropped_modes,
        translation,
        critic,
        interpolation,
    )
}
_WAIT_S = 2.0

logger = logging.getLogger("hfgen")


class _Job(NamedTuple):
    """One cell of a study, from one seed."""

    study: Study
    label: str
    folder: Path
    config: RunConfig

    @property
    def extra(self) -> Path:
        return self.folder / f"study-{self.study.name}.json"

    @property
    def done(self) -> bool:
        return (self.folder / "record.json").is_file() and (self.study.measure is None or self.extra.is_file())


def run_studies(
    names: Sequence[str],
    out: Path,
    *,
    data: str = DEFAULT_DATA,
    columns: Columns | None = None,
    budget: str = "full",
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Train and measure what the studies need, decide on their claims; writes into `out` and returns study.json.

    Every cell is a run's folder in `out`/cells, with its record and its evaluation dataset, named by a hash of its
    settings: a repeated call trains only what is missing or has changed. Several processes with the same arguments
    share the cells among them.

    Args:
        names: Of `STUDIES`; none: all. What `out` holds of others, on the same data and budget, stays.
        out: Folder for study.json, report.html, figures/ and cells/.
        data: What models are trained on, as `hfgen train` takes it (at least 16 px; smaller images are padded).
        columns: Which part of `data` is meant, where it has several.
        budget: `smoke` (too small for any verdict) or `full`; of held-out images as many as there are, at most.
        device: Where models are trained and evaluated; see `hfgen.devices.choose`. What a study measures beside that
            is small and stays on the CPU.
        dtype: In which numbers they are evaluated; see there.

    Raises:
        UserError: an unknown study or budget, or bad data.
    """
    for name in names:
        if name not in STUDIES:
            raise UserError(f"claim: {name!r} isn't a study; choose some of {', '.join(STUDIES)}")
    if budget not in BUDGETS:
        raise UserError(f"budget: {budget!r} is unknown; choose {' or '.join(BUDGETS)}")
    compute = choose(device, dtype)
    chosen, size = [STUDIES[name] for name in names or STUDIES], BUDGETS[budget]
    # Before any folder is made: data that can't be loaded leave no trace.
    which: dict[str, Any] = {name: column for name, column in (columns or {}).items() if column}
    size = size._replace(n=choose_n(data, "test", None, most=size.n, config_name=which.get("config_name")))
    open_store(data, split="train", resolution=RESOLUTION, small_images="pad", **which)
    make_config = partial(config_of, budget=size, data=data, columns=which)
    jobs = [job for study in chosen for job in _jobs(study, out / "cells", make_config, size, compute)]
    _make(jobs, size.n, compute)
    facts = {
        "schema": STUDY.version,
        "data": data,
        **({"columns": which} if which else {}),
        "budget": {"name": budget, **size._asdict()},
        "versions": {name: version(name) for name in ("hfgen", "torch", "diffusers")},
    }
    decided = {study.name: _decide(study, [job for job in jobs if job.study is study], out) for study in chosen}
    decided = {**_decided_before(out, facts), **decided}
    studies = [decided[name] for name in STUDIES if name in decided]
    document = {
        **facts,
        "studies": studies,
        "verdicts": list(itertools.chain.from_iterable(map(_verdicts, studies))),
    }
    shown = [STUDIES[study["name"]] for study in studies]
    for study in shown:
        for kind in ("png", "svg"):
            with theme("light"):
                write_bytes(out / "figures" / f"{study.name}.{kind}", encode(draw(study, document), kind))
    write_text(out / "report.html", render(shown, document))
    STUDY.write(out / "study.json", document)
    return document


def _decided_before(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The studies of an earlier call with the same facts, by name."""
    if not (out / "study.json").is_file():
        return {}
    document = STUDY.read(out / "study.json")
    if any(document.get(name) != fact for name, fact in facts.items()):
        return {}
    return {study["name"]: study for study in document["studies"]}


def _jobs(
    study: Study, cells: Path, make_config: Callable[..., RunConfig], budget: Budget, compute: Compute
) -> Iterator[_Job]:
    for label, cell in study.cells.items():
        for seed in range(budget.seeds):
            config = make_config(cell, seed=seed)
            yield _Job(study, label, cell_folder(cells, config, budget.n, compute.dtype_name), config)


def _make(jobs: Sequence[_Job], n: int, compute: Compute) -> None:
    """Do what isn't done; what another process does now is waited for."""
    # A seed after the other, and the same data next to each other: images and extractor are in memory then.
    order = sorted(jobs, key=lambda job: (job.config.seed, job.config.data))
    waiting = [job for job in order if not job.done]
    while waiting:
        left = []
        for place, job in enumerate(waiting, 1):
            if not job.done:
                name = f"{job.study.name}: {job.label}, seed {job.config.seed}"
                logger.info("%s (cell %d of %d)", name, place, len(waiting))
                if not _do(job, n, compute):
                    left.append(job)
        if len(left) == len(waiting):
            time.sleep(_WAIT_S)
        waiting = left


def _do(job: _Job, n: int, compute: Compute) -> bool:
    """Train and measure a cell; False: another process is at it."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder.with_name(f".{job.folder.name}.lock"), blocking=False):
            trained = make(job.folder, job.config, n, compute)
            if job.study.measure is not None and not job.extra.is_file():
                found = job.study.measure(trained)
                write_json(job.extra, {name: estimate.as_dict() for name, estimate in found.items()})
    except Timeout:
        return False
    return True


def _decide(study: Study, jobs: Sequence[_Job], out: Path) -> dict[str, Any]:
    """A study's numbers and verdicts, as JSON values."""
    results: dict[str, list[Measured]] = {}
    folders: dict[str, list[str]] = {}
    for job in jobs:
        metrics = estimates(RECORD.read(job.folder / "record.json")["metrics"])
        if study.measure is not None:
            metrics |= estimates(read_json(job.extra))
        results.setdefault(job.label, []).append(Measured(metrics, Trained(job.folder, job.config)))
        folders.setdefault(job.label, []).append(job.folder.relative_to(out).as_posix())
    return {
        "name": study.name,
        "question": study.question,
        "variable": study.variable,
        "metric": study.metric,
        "cells": {label: {"folders": folders[label], "metrics": _joined(results, label)} for label in results},
        "claims": [claim.decide(results) for claim in study.claims],
    }


def _joined(results: Results, label: str) -> dict[str, Any]:
    """Each metric of a cell over its seeds."""
    seeds = [measured.metrics for measured in results[label]]
    names = [name for name in seeds[0] if all(name in metrics for metrics in seeds)]
    return {name: over_seeds([metrics[name] for metrics in seeds])._asdict() for name in names}


def _verdicts(study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line for each claim, as the Space shows it."""
    for claim in study["claims"]:
        # Two tests may bound one number from both sides.
        numbers = dict.fromkeys(f"{test['what']}: {_by_both(test)}" for test in claim["tests"])
        if claim.get("judges_disagree"):
            numbers["the two judges disagree"] = None
        yield {
            "study": study["name"],
            "claim": claim["claim"],
            "number": "; ".join(numbers),
            "verdict": claim["verdict"],
        }


def _by_both(test: dict[str, Any]) -> str:
    """A test's number, and the second judge's beside it."""
    second = test.get("second_judge")
    return in_words(test) if second is None else f"{in_words(test)}, by pixels and spectra {in_words(second)}"
