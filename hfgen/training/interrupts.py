"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from accelerate import Accelerator


class Interrupted(Exception):
    """The run was stopped from outside and saved. `exit_code` is 0 for SIGTERM, 130 for Ctrl-C."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupts:
    """Catches SIGINT and SIGTERM while it is entered; a second Ctrl-C stops at once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._signal: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def arrived(self, step: int) -> bool:
        """Whether to stop after this step; several processes agree on it at every tenth step."""
        if self._accelerator.num_processes == 1:
            return self._signal is not None
        if step % 10:
            return False
        if self._signal is not None:
            self._accelerator.set_trigger()
        return self._accelerator.check_trigger()

    def stop(self, out: Path, images_seen: int) -> NoReturn:
        """Leave the run.

        Raises:
            Interrupted: always.
        """
        code = 130 if self._signal == signal.SIGINT else 0
        raise Interrupted(f"stopped and saved at {images_seen} images in {out}; repeat the command to go on", code)
