"""Rows that are prepared beside each other, in a process each, and timed one by one once all of them are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.gpu_settings import Row, Value

_READY, _GO = "ready", "go"


class InTurn:
    """Work that calls what it is given once all is done that isn't timed, and is timed from then on.

    Args:
        work: Can be pickled, and is called with a function `ready`.
    """

    def __init__(self, work: Callable[..., dict[str, Value]]) -> None:
        self.work = work

    def __call__(self) -> dict[str, Value]:
        """Alone, without a process of its own."""
        return self.work(ready=lambda: None)


def prepared(rows: list[Row]) -> list[Row]:
    """The rows, of which those `InTurn` are being prepared from now on; none is measured before all of them are."""
    in_turn = {name: work for name, work in rows if isinstance(work, InTurn)}
    if len(in_turn) < 2:
        return rows
    children = {name: _Child(work.work) for name, work in in_turn.items()}
    return [(name, partial(_after, list(children.values()), children.get(name, work))) for name, work in rows]


def _after(children: list[_Child], work: Callable[[], dict[str, Value]]) -> dict[str, Value]:
    for child in children:
        child.wait()
    return work()


class _Child:
    """One row's process."""

    def __init__(self, work: Callable[..., dict[str, Value]]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_prepare, args=(work, theirs), daemon=True)
        self._process.start()
        # Else its end would go unnoticed.
        theirs.close()

    def __call__(self) -> dict[str, Value]:
        while (said := self._said()) == _READY:
            # More than once where it didn't fit and is smaller now.
            self._pipe.send(_GO)
        self._process.join()
        if isinstance(said, Exception):
            raise said
        return said

    def wait(self) -> None:
        """Until it is prepared, or has ended."""
        self._pipe.poll(None)

    def _said(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            return RuntimeError("its process ended without a word")


def _prepare(work: Callable[..., dict[str, Value]], pipe: Connection) -> None:
    def ready() -> None:
        pipe.send(_READY)
        pipe.recv()

    try:
        said: Any = work(ready=ready)
    except Exception as error:
        # Not every exception can be pickled.
        said = RuntimeError(f"{type(error).__name__}: {error}")
    pipe.send(said)
