"""Real training processes, one or several that share the steps, which may be killed."""

import contextlib
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import forks
from ports import free_port
from tiny import COMMON, TINY, tiny_config

FEW_STEPS = ("--precision=fp32", "--max_images=48", "--log_every=16", "--checkpoint_every=32")
"""Three steps, the second of which ends with a checkpoint."""

Moment = Sequence[tuple[str, str]]
"""(audit event, regular expression for its arguments): they happen in this order, and the last one never does."""


class Training:
    """`hfgen train`, or another verb, in one process or in several that share the work as under `accelerate launch`."""

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int = 1,
        die_before: Moment = (),
        by_rank: Sequence[Sequence[str]] = (),
        variables: Mapping[str, str] | None = None,
        verb: str = "train",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Start it.

        `by_rank` are further arguments of each process, `variables` of the launcher's environment; `prepare` is called
        in each process before.
        """
        (out,) = (argument.removeprefix("--out=") for argument in arguments if argument.startswith("--out="))
        self.out, self.log = Path(out), Path(f"{out}.log")
        self.arguments = [[*arguments, *more] for more in by_rank or [[]] * processes]
        self.die_before, self.variables = die_before, {**os.environ, "ACCELERATE_USE_CPU": "true", **(variables or {})}
        self.verb, self.prepare = verb, prepare
        self.start()

    def start(self) -> None:
        """Start its processes."""
        count = len(self.arguments)
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
        shared |= {"MASTER_PORT": str(free_port())}
        places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        self.ranks = [
            forks.start(
                _train,
                ([self.verb, *arguments], self.die_before, self.prepare),
                {**self.variables, **(place if count > 1 else {})},
                self.log,
                self.log,
            )
            for place, arguments in zip(places, self.arguments, strict=True)
        ]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait; the processes must still run by then."""
        while not condition():
            assert self.running(), f"ended with {self.codes()}: {self.tail()}"
            time.sleep(0.0005)

    def send(self, number: int, ranks: Sequence[int] | None = None) -> None:
        """Send a signal to all processes, or to some; not to those that have ended."""
        for rank in range(len(self.ranks)) if ranks is None else ranks:
            if self.ranks[rank].exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.ranks[rank].pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until nothing is left; stopped first, so that none sees another one go."""
        self.send(signal.SIGSTOP)
        self.send(signal.SIGKILL)
        assert set(self.codes()) == {-signal.SIGKILL}, f"ended before the kill with {self.codes()}: {self.tail()}"

    def running(self) -> bool:
        """Whether every process runs."""
        return all(rank.exitcode is None for rank in self.ranks)

    def codes(self) -> list[int | None]:
        """The exit codes, once all have ended; negative: the signal that ended it."""
        for rank in self.ranks:
            rank.join(120)
            assert rank.exitcode is not None, f"hangs: {self.tail()}"
        return [rank.exitcode for rank in self.ranks]

    def finish(self) -> None:
        """Let it train to the end."""
        if len(self.ranks) > 1 and -signal.SIGSEGV in self.codes():
            # A segmentation fault of gloo's own thread was seen in torch 2.13: a kill, after which a run goes on.
            self.start()
        assert set(self.codes()) == {0}, f"ended with {self.codes()}: {self.tail()}"

    def tail(self) -> str:
        """The last of what it printed."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


def tiny_arguments(family: str, data: Path, out: Path, *more: str) -> list[str]:
    """Arguments of `hfgen train` for the tiny run of a family."""
    return [f"{family}-glyphs", f"--out={out}", f"--data={data}", *COMMON, *TINY[family], *more]


def assert_learnt_alike(out: Path, one: Path, family: str, *overrides: str) -> None:
    """The last weights and averages of `out` are those of `one`, but for little of their moves from the start.

    All as a whole, each tensor loosely, and after a few steps: weights whose gradient is nearly zero follow rounding,
    which Adam enlarges until it reaches all of them.
    """
    import torch
    from safetensors.torch import load_file

    from hfgen.seeds import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("weights", 0))
        networks = tiny_config(family, Path(), *overrides).model.build(16, 1)
    last = max((one / "checkpoints").iterdir()) / "training_state"
    for kind in ("network", "average"):
        for name, network in networks.items():
            path = last / f"{kind}.{name}.safetensors"
            first, second, start = load_file(path), load_file(out / path.relative_to(one)), network.state_dict()
            errors, moves = [], []
            for key, value in first.items():
                if torch.equal(value, second[key]):
                    continue
                error, moved = (float((value - other).norm()) for other in (second[key], start[key]))
                assert error <= 0.5 * moved + 2e-4, f"{path.stem}: {key}: {error} after a move by {moved}"
                errors.append(error)
                moves.append(moved)
            assert math.hypot(*errors) <= 0.05 * math.hypot(*moves) + 2e-4, path.stem


def _train(arguments: list[str], die_before: Moment, prepare: Callable[[], None] | None) -> None:
    import torch

    from hfgen.cli import main

    # Threads are fixed, since the order of sums depends on their number.
    torch.set_num_threads(1)
    if die_before:
        _die_before(die_before)
    if prepare is not None:
        prepare()
    sys.exit(main(arguments))


def _die_before(moment: Moment) -> None:
    ahead = list(moment)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == ahead[0][0] and re.search(ahead[0][1], repr(arguments)):
            if len(ahead) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            ahead.pop(0)

    sys.addaudithook(hook)
