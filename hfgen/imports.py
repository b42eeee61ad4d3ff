"""Imports of large packages, at less cost."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector(freeze: bool = False) -> Iterator[None]:
    """Within, Python's garbage collector waits.

    Importing torch and diffusers makes a million objects that stay; to walk them again and again takes a quarter of
    the time, and frees nothing.

    Args:
        freeze: It never looks at what there is by then, neither later nor when the process ends. Only of a command,
            whose process holds nothing else yet; nothing is frozen where diffusers was there before.
    """
    collecting, new = gc.isenabled(), "diffusers" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if freeze and new:
            gc.freeze()
        if collecting:
            gc.enable()
