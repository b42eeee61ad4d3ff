"""Real processes that start at once: forked from a server that has imported everything, where there is no GPU."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from tiny import TINY, time_costs_once

# What torch imports asks CUDA for its devices, after which a fork can't use them.
_FORKS = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
_FORKS.set_forkserver_preload(
    [
        "pytest",
        "torch._inductor.cudagraph_trees",
        "torch.nn.parallel.distributed",
        "accelerate.tracking",
        "hfgen.cli",
        "hfgen.comparison.compare",
        "hfgen.configs",
        "hfgen.evaluation.timing",
        "hfgen.evaluation.verification",
        "hfgen.training.train",
        *(f"hfgen.families.{family}" for family in TINY),
    ]
)


def start(
    work: Callable[..., None], arguments: tuple, environment: Mapping[str, str], out: Path, error: Path
) -> BaseProcess:
    """Begin `work(*arguments)` in a process of its own, with this environment; what it prints goes into the files."""
    process = _FORKS.Process(target=_begin, args=(work, arguments, dict(environment), Path.cwd(), out, error))
    process.daemon = True
    process.start()
    return process


def _begin(
    work: Callable[..., None], arguments: tuple, environment: Mapping[str, str], folder: Path, out: Path, error: Path
) -> None:
    for descriptor, path in ((1, out), (2, error)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    # What was imported before the fork needs no walk.
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    time_costs_once()
    work(*arguments)
