"""The processes of a launch that measure one model: process 0 decides and measures, the others work for it.

What they compute are the batches of one process, so that every bit is the same however many there are.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.errors import SettingsError, UserError
from hfgen.launch import process_count
from hfgen.metrics import Extractor
from hfgen.metrics.placement import sharing_features

# The others wait while process 0 decodes data, trains an extractor and measures.
_PATIENCE = datetime.timedelta(days=2)

Task = Callable[..., Any]


class _Message(NamedTuple):
    """What process 0 sends to each: a task and its arguments, nothing to do in this round, or the end."""

    task: str | None = None
    arguments: tuple[Any, ...] = ()
    is_end: bool = False
    result: Any = None


class Processes:
    """Those of a launch, as each of them sees it; all of them have to make one.

    Attributes:
        count: How many there are.
        is_main: Whether this is process 0.
        device: This one's own, as Accelerate chose it.
    """

    def __init__(self) -> None:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        self.count, self.is_main, self.device = state.num_processes, state.process_index == 0, state.device
        if self.count != process_count():
            there = f"{process_count()} were launched, but Accelerate joins {self.count}"
            raise SettingsError(f"processes: {there}; launch with --multi_gpu")
        # Pixels and features travel through the processors' memory, whatever the devices.
        self._group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        self._tasks: Mapping[str, Task] = {}
        self._extractor: Extractor | None = None

    def agree(self, failure: UserError | None) -> None:
        """Go on only where no process failed.

        Raises:
            UserError: the first one's failure, in all of them.
        """
        failures: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(failures, failure, group=self._group)
        if (first := next((one for one in failures if one is not None), None)) is not None:
            raise first

    @contextlib.contextmanager
    def leading(self, tasks: Mapping[str, Task]) -> Iterator[list[Any]]:
        """Within, process 0 may `run` tasks in all; the value that it puts into the list is what `follow` returns."""
        self._tasks, result = {**tasks, "features": self._features}, list[Any]()
        try:
            with sharing_features(self._share_features):
                yield result
        except BaseException as error:
            self._end(error if isinstance(error, UserError) else UserError(f"process 0 failed: {error!r}"))
            raise
        self._end(result[0] if result else None)

    def _end(self, result: Any) -> None:
        self._scatter([_Message(is_end=True, result=result)] * self.count)

    def follow(self, tasks: Mapping[str, Task]) -> Any:
        """Do what process 0 asks until it ends; returns its result.

        Raises:
            UserError: process 0 failed.
        """
        self._tasks = {**tasks, "features": self._features}
        while True:
            message = self._scatter(None)
            if message.is_end:
                if isinstance(message.result, BaseException):
                    raise message.result
                return message.result
            torch.distributed.gather_object(self._answer(message), None, dst=0, group=self._group)

    def run(self, task: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What a task gives for each tuple of arguments, in their order; a process takes one after another.

        Raises:
            UserError: it failed, in whichever process.
        """
        found: list[Any] = []
        for first in range(0, len(arguments), self.count):
            part = arguments[first : first + self.count]
            messages = [_Message(task, tuple(map(_compact, given))) for given in part]
            mine = self._scatter([*messages, *[_Message()] * (self.count - len(part))])
            answers: list[Any] = [None] * self.count
            torch.distributed.gather_object(self._answer(mine), answers, dst=0, group=self._group)
            for answer in answers[: len(part)]:
                if isinstance(answer, BaseException):
                    raise answer
                found.append(answer)
        return found

    def _scatter(self, messages: list[_Message] | None) -> _Message:
        received: list[Any] = [None]
        torch.distributed.scatter_object_list(received, messages, src=0, group=self._group)
        return received[0]

    def _answer(self, message: _Message) -> Any:
        if message.task is None:
            return None
        try:
            return self._tasks[message.task](*message.arguments)
        except UserError as error:
            return error
        except Exception as error:  # Of a process that nobody sees.
            return UserError(f"process {torch.distributed.get_rank()} failed: {type(error).__name__}: {error}")

    def _share_features(self, extractor: Extractor, batches: Sequence[Tensor]) -> list[Tensor]:
        """See `hfgen.metrics.placement.sharing_features`; an extractor travels once."""
        is_new = extractor is not self._extractor
        if is_new:
            self._extractor = extractor
            moved = copy.deepcopy(extractor).to(torch.device("cpu"))
            self.run("features", [(None, moved)] * self.count)
        return self.run("features", [(batch, None) for batch in batches])

    def _features(self, batch: Tensor | None, extractor: Extractor | None) -> Tensor | None:
        if extractor is not None and not self.is_main:
            self._extractor = extractor.to(self.device)
        if batch is None:
            return None
        assert self._extractor is not None, "it comes first"
        return self._extractor.batch_features(batch)


def _compact(value: Any) -> Any:
    """A tensor without the rest of the memory that it is a part of, which would travel with it."""
    return value.clone() if isinstance(value, Tensor) else value
