"""A step in N processes of one thread, by CPU time, and the exchange of its gradients alone.

CPU time leaves out what a process waits, for a core or for the others, so that two cores can measure four processes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

_WARM, _EXCHANGES = 2, 10


class Shared(NamedTuple):
    """Of the process that takes most.

    Attributes:
        step: CPU seconds of a step, the fewest of some.
        exchange: CPU seconds of adding up the gradients, alone; 0 of one process.
        waited: The same by the clock, the fastest of some.
    """

    step: float
    exchange: float
    waited: float


def measure(config: Any, processes: int, steps: int, megabytes: float) -> Shared:
    """`steps` steps of a run in so many processes, which exchange `megabytes` of gradients.

    Raises:
        SystemExit: a process ended before it was done.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    # A forked process would wait for threads that only its parent has.
    context, ends, started = multiprocessing.get_context("spawn"), [], []
    for rank in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (rank, processes, port, config, steps, megabytes, theirs)
        started.append(context.Process(target=_work, args=arguments, daemon=True))
        started[-1].start()
        theirs.close()
        ends.append(ours)
    try:
        found_by_each = [Shared(*end.recv()) for end in ends]
    except EOFError:
        raise SystemExit(f"a process of {processes} ended before its {steps} steps were done") from None
    finally:
        # All has been said; to leave a group in turn, gloo may wait for one that has left.
        for process in started:
            process.kill()
            process.join()
    return Shared(*map(max, zip(*found_by_each, strict=True)))


def _work(rank: int, processes: int, port: int, config: Any, steps: int, megabytes: float, end: Connection) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    if processes > 1:
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from accelerate import Accelerator

    from hfgen.data import open_store
    from hfgen.training.trainer import Trainer

    store = open_store(config.data, split=config.split, resolution=config.resolution)
    trainer = Trainer(config, store, Accelerator(cpu=True))
    for _ in range(_WARM):
        trainer.step()
    taken = []
    for _ in range(steps):
        began = time.process_time()
        trainer.step()
        taken.append(time.process_time() - began)
    # Other work costs some of them their caches.
    end.send((min(taken), *(_exchange(megabytes) if processes > 1 else (0.0, 0.0))))
    # Until it's killed: the others may still exchange with it.
    threading.Event().wait()


def _exchange(megabytes: float) -> tuple[float, float]:
    """(CPU seconds, the fewest seconds by the clock) of adding up so many gradients."""
    gradients, waited = torch.zeros(round(megabytes * 1e6 / 4)), []
    torch.distributed.all_reduce(gradients)
    began = time.process_time()
    for _ in range(_EXCHANGES):
        torch.distributed.barrier()
        started = time.perf_counter()
        torch.distributed.all_reduce(gradients)
        waited.append(time.perf_counter() - started)
    return (time.process_time() - began) / _EXCHANGES, min(waited)
