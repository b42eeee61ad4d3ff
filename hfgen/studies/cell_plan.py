"""Which cells a study needs from which seeds, and how long they will take, measured before they are trained."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hfgen.devices import Compute
from hfgen.limits import usable_cores
from hfgen.studies.cells import Budget, Cell, Trained, cell_folder, make, train_cell
from hfgen.studies.claims import Study
from hfgen.studies.code_version import code_of_measure
from hfgen.training.config import RunConfig

# Two lengths of a trial run, of which the difference is training alone.
_SHORT, _LONG = 320, 1_600
_HOUR = 3600

logger = logging.getLogger("hfgen")


class Job(NamedTuple):
    """One cell of a study, from one seed."""

    study: Study
    label: str
    folder: Path
    config: RunConfig

    @property
    def extra(self) -> Path:
        """What the study measures beside the record; named by the version of the code that does."""
        assert self.study.measure is not None, "only of studies that measure"
        return self.folder / f"study-{self.study.name}-{code_of_measure(self.study.measure.__module__)}.json"

    @property
    def ready(self) -> bool:
        """Whether the cell that it begins with, if any, is trained."""
        start = self.config.start_from
        return not start or (self.folder.parent / start / "record.json").is_file()

    @property
    def done(self) -> bool:
        """Whether it is trained, evaluated and measured."""
        return (self.folder / "record.json").is_file() and (self.study.measure is None or self.extra.is_file())


MakeConfig = Callable[[Cell, int], RunConfig]
"""The run of a cell from a seed."""


def jobs_of(
    study: Study, ids: Sequence[str], cells: Path, make_config: MakeConfig, budget: Budget, compute: Compute
) -> Iterator[Job]:
    """What a study's sentences need; `ids`: these alone, and no cells that only stand in charts.

    Cells that decide on a sentence are trained from all seeds of the budget, others from those of curves.
    """
    needed, deciding = study.needed(ids), study.deciding
    for label in (label for label in study.cells if label in needed):
        cell = study.cells[label]
        for seed in range(budget.seeds if label in deciding else budget.seeds_of_curves):
            config = make_config(cell, seed)
            yield Job(study, label, cell_folder(cells, config, budget.n, compute.dtype_name), config)


def announce(jobs: Sequence[Job], budget: Budget, compute: Compute, *, measured: bool) -> None:
    """Say what will be trained; `measured`: and how long that takes, by a trial of each kind of cell."""
    missing = [job for job in jobs if not job.done]
    fresh = {job.folder: job for job in missing}
    images = sum(job.config.max_images for job in fresh.values())
    cells = len({job.folder for job in jobs})
    logger.info("%d cells, %d of them to do, which see %s images", cells, len(fresh), f"{images:,}")
    if not measured or not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        hours = _hours(missing, Trials(Path(folder), jobs, budget, compute))
    cores = max(1, int(usable_cores()))
    logger.info("about %.1f h of one process; %.1f h of %d, one a core", hours, hours / cores, cores)


def _hours(missing: Sequence[Job], trials: Trials) -> float:
    """Of one process, each study's said."""
    total, seen = 0.0, set[Path]()
    for name, jobs in itertools.groupby(missing, lambda job: job.study.name):
        seconds = 0.0
        for job in jobs:
            seconds += trials.measuring(job)
            if job.folder not in seen:
                seen.add(job.folder)
                seconds += trials.training(job)
        logger.info("%s: %.2f h, without cells that stand above", name, seconds / _HOUR)
        total += seconds
    return total / _HOUR


class Trials:
    """Seconds of one process, by two short runs of each kind of cell: a family on some data, frozen or not."""

    def __init__(self, folder: Path, jobs: Sequence[Job], budget: Budget, compute: Compute) -> None:
        self._folder, self._n, self._compute = folder, budget.n, compute
        self._configs = {job.folder.name: job.config for job in jobs}
        self._kinds: dict[tuple[str, str, bool], tuple[Trained, float, float]] = {}
        self._measures: dict[tuple[str, str], float] = {}

    def training(self, job: Job) -> float:
        """Training and evaluation of a cell."""
        _, fixed, image = self._trial(job)
        return fixed + image * job.config.max_images

    def measuring(self, job: Job) -> float:
        """What its study measures of it."""
        kind = job.study.name, job.config.family
        if job.study.measure is None:
            return 0.0
        if kind not in self._measures:
            trained, measure = self._trial(job)[0], job.study.measure
            self._measures[kind] = _seconds(lambda: measure(trained))
        return self._measures[kind]

    def _trial(self, job: Job) -> tuple[Trained, float, float]:
        """A trained cell, the seconds that don't depend on the images seen, and those of an image."""
        kind = job.config.family, job.config.data, bool(job.config.start_from)
        if kind not in self._kinds:
            logger.info("trial of %s on %s", *kind[:2])
            with _unsaid():
                self._kinds[kind] = self._tried(job)
        return self._kinds[kind]

    def _tried(self, job: Job) -> tuple[Trained, float, float]:
        """What `_trial` gives, of the job's own kind."""
        if start := job.config.start_from:
            self._train(self._folder / start, self._configs[start], _SHORT)
        short, long = (self._train(self._place(images), job.config, images) for images in (_SHORT, _LONG))
        trained = self._made(job)
        # Again: the first evaluation may have trained the judge, which is kept.
        (trained.folder / "record.json").unlink()
        evaluation = _seconds(lambda: self._made(job))
        image = max(long - short, 0.0) / (_LONG - _SHORT)
        return trained, max(short - image * _SHORT, 0.0) + evaluation, image

    def _train(self, folder: Path, config: RunConfig, images: int) -> float:
        with self._compute.training():
            return _seconds(lambda: train_cell(folder, dataclasses.replace(config, max_images=images)))

    def _made(self, job: Job) -> Trained:
        config = dataclasses.replace(job.config, max_images=_LONG)
        return make(self._place(_LONG), config, self._n, self._compute)

    def _place(self, images: int) -> Path:
        return self._folder / f"{len(self._kinds)}-{images}"


@contextlib.contextmanager
def _unsaid() -> Iterator[None]:
    """Within, runs of trial say nothing of their folders, which are gone afterwards."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
