"""Ctrl-C within libraries that make another error of it, such as safetensors: it stays Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def ctrl_c() -> Iterator[None]:
    """Within, also as a decorator, what a library raises in place of KeyboardInterrupt is KeyboardInterrupt again.

    Where Ctrl-C doesn't raise it (other threads, or a handler that notes it for later), nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    arrived = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        try:
            before(number, frame)
        except KeyboardInterrupt:
            arrived = True
            raise

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except Exception:
        if arrived:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
