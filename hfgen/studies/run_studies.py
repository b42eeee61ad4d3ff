"""Claims -> cells, trained and measured once -> verdicts, study.json, report.html."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from hfgen.data import open_store
from hfgen.data_options import DEFAULT_DATA
from hfgen.devices import Compute, choose
from hfgen.documents import RECORD, STUDY, versions
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
    one_latent,
    translation,
)
from hfgen.studies.cell_plan import Job, announce, jobs_of
from hfgen.studies.cells import BUDGETS, RESOLUTION, Budget, Cell, Columns, Trained, config_of, make
from hfgen.studies.claims import Study, correct, told
from hfgen.studies.effects import Measured, Results, over_seeds
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
        one_latent,
    )
}
SENTENCES = sum(len(study.claims) for study in STUDIES.values())
"""Named before any run, and corrected for together."""
_WAIT_S = 2.0

logger = logging.getLogger("hfgen")


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
    settings and of the code that its numbers depend on: a repeated call trains only what is missing or has changed.
    Several processes with the same arguments share the cells among them.

    Args:
        names: Of `STUDIES`, or STUDY/SENTENCE for one sentence of it; none: all. What `out` holds of others, on the
            same data and budget, stays.
        out: Folder for study.json, report.html, figures/ and cells/.
        data: What models are trained on, as `hfgen train` takes it (at least 16 px; smaller images are padded).
        columns: Which part of `data` is meant, where it has several.
        budget: `smoke` (too small for any verdict) or `full`; of held-out images as many as there are, at most.
        device: Where models are trained and evaluated; see `hfgen.devices.choose`. What a study measures beside that
            is small and stays on the CPU.
        dtype: In which numbers they are evaluated; see there.

    Raises:
        UserError: an unknown study, sentence or budget, bad data, or a study.json of another version in `out`.
    """
    plan = planned(names, out, data=data, columns=columns, budget=budget, device=device, dtype=dtype)
    announce(plan.jobs, plan.size, plan.compute, measured=False)
    before = _decided_before(out, plan.facts)
    _make(plan.jobs, plan.size.n, plan.compute)
    decided = {name: _decide(STUDIES[name], ids, plan.jobs, out) for name, ids in plan.chosen.items()}
    studies = [_together(before.get(name), decided.get(name)) for name in STUDIES if name in {**before, **decided}]
    correct((claim for study in studies for claim in study["claims"]), SENTENCES)
    document = {
        **plan.facts,
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


def plan_studies(names: Sequence[str], out: Path, **options: Any) -> None:
    """Say what `run_studies` would train and how long that takes, measured by trials; writes nothing into `out`."""
    plan = planned(names, out, **options)
    announce(plan.jobs, plan.size, plan.compute, measured=True)


class Planned(NamedTuple):
    """Names of studies, each with the sentences that are asked for (none: all), their jobs, and study.json's facts."""

    chosen: dict[str, tuple[str, ...]]
    jobs: list[Job]
    size: Budget
    compute: Compute
    facts: dict[str, Any]


def planned(
    names: Sequence[str], out: Path, *, data: str, columns: Columns | None, budget: str, device: str, dtype: str
) -> Planned:
    """Check what `run_studies` was asked for, before any folder is made: what can't be done leaves no trace."""
    chosen = _chosen(names)
    if budget not in BUDGETS:
        raise UserError(f"budget: {budget!r} is unknown; choose {' or '.join(BUDGETS)}")
    compute, size = choose(device, dtype), BUDGETS[budget]
    which: dict[str, Any] = {name: column for name, column in (columns or {}).items() if column}
    size = size._replace(n=choose_n(data, "test", None, most=size.n, config_name=which.get("config_name")))
    open_store(data, split="train", resolution=RESOLUTION, small_images="pad", **which)

    def make_config(cell: Cell, seed: int) -> RunConfig:
        return config_of(cell, size, data, seed, which, compute.dtype_name)

    jobs = [
        job
        for name, ids in chosen.items()
        for job in jobs_of(STUDIES[name], ids, out / "cells", make_config, size, compute)
    ]
    facts = {
        "schema": STUDY.version,
        "data": data,
        **({"columns": which} if which else {}),
        "budget": {"name": budget, **size._asdict()},
        "sentences": SENTENCES,
        "versions": versions(),
    }
    return Planned(chosen, jobs, size, compute, facts)


def _chosen(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Studies by name, each with the sentences that are asked for; none: all of it."""
    asked: dict[str, tuple[str, ...]] = {}
    for name in names or STUDIES:
        study, _, sentence = name.partition("/")
        if study not in STUDIES:
            raise UserError(f"claim: {study!r} isn't a study; choose some of {', '.join(STUDIES)}")
        ids = [claim.id for claim in STUDIES[study].claims]
        if "/" in name and sentence not in ids:
            listed = ", ".join(f"{study}/{one}" for one in ids)
            raise UserError(f"claim: {name!r} isn't a sentence; choose some of {listed}")
        whole = not sentence or asked.get(study) == ()
        asked[study] = () if whole else (*asked.get(study, ()), sentence)
    return {name: asked[name] for name in STUDIES if name in asked}


def _decided_before(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The studies of an earlier call with the same facts, by name."""
    if not (out / "study.json").is_file():
        return {}
    document = read_json(out / "study.json")
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != STUDY.version:
        raise UserError(f"out: {out / 'study.json'} has schema {schema}, not {STUDY.version}; give another --out")
    STUDY.check(document, out / "study.json")
    if other := [name for name, fact in facts.items() if document.get(name) != fact]:
        logger.warning("out: study.json is of other %s; its verdicts will be replaced", ", ".join(other))
        return {}
    return {study["name"]: study for study in document["studies"]}


def _together(before: dict[str, Any] | None, now: dict[str, Any] | None) -> dict[str, Any]:
    """A study as it is now, with the sentences and cells that only an earlier call had."""
    if before is None or now is None:
        found = now or before
        assert found is not None, "one of them is there"
        return found
    claims = {claim["id"]: claim for claim in (*before["claims"], *now["claims"])}
    order = [claim.id for claim in STUDIES[now["name"]].claims]
    cells = {**before["cells"], **now["cells"]}
    return {**now, "cells": cells, "claims": [claims[id] for id in order if id in claims]}


def _make(jobs: Sequence[Job], n: int, compute: Compute) -> None:
    """Do what isn't done; what another process does now is waited for."""
    # A seed after the other, and the same data next to each other: images and extractor are in memory then.
    order = sorted(jobs, key=lambda job: (job.config.seed, job.config.data))
    waiting = [job for job in order if not job.done]
    while waiting:
        left = []
        for place, job in enumerate(waiting, 1):
            if not job.done and not (job.ready and _do(job, f"cell {place} of {len(waiting)}", n, compute)):
                left.append(job)
        if len(left) == len(waiting):
            time.sleep(_WAIT_S)
        waiting = left


def _do(job: Job, place: str, n: int, compute: Compute) -> bool:
    """Train and measure a cell; False: another process is at it."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder.with_name(f".{job.folder.name}.lock"), blocking=False):
            logger.info("%s: %s, seed %d (%s)", job.study.name, job.label, job.config.seed, place)
            trained = make(job.folder, job.config, n, compute)
            if job.study.measure is not None and not job.extra.is_file():
                found = job.study.measure(trained)
                write_json(job.extra, {name: estimate.as_dict() for name, estimate in found.items()})
    except Timeout:
        return False
    return True


def _decide(study: Study, ids: Sequence[str], jobs: Sequence[Job], out: Path) -> dict[str, Any]:
    """A study's numbers, and verdicts before the correction for many sentences, as JSON values."""
    results: dict[str, list[Measured]] = {}
    folders: dict[str, list[str]] = {}
    for job in (job for job in jobs if job.study is study):
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
        "claims": [claim.decide(results) for claim in study.claims if not ids or claim.id in ids],
    }


def _joined(results: Results, label: str) -> dict[str, Any]:
    """Each metric of a cell over its seeds."""
    seeds = [measured.metrics for measured in results[label]]
    names = [name for name in seeds[0] if all(name in metrics for metrics in seeds)]
    return {name: over_seeds([metrics[name] for metrics in seeds])._asdict() for name in names}


def _verdicts(study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line for each claim, as cards and the Space show it."""
    for claim in study["claims"]:
        yield {
            "id": f"{study['name']}/{claim['id']}",
            "study": study["name"],
            "claim": claim["claim"],
            "number": told(claim),
            "verdict": claim["verdict"],
        }
