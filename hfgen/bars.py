"""Progress bars of the libraries below, switched off."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_bars(library: str) -> Iterator[None]:
    """Keep `datasets` or `transformers` from drawing a bar for every small file that it reads or writes."""
    bars = importlib.import_module(f"{library}.utils.logging")
    drawn = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            bars.enable_progress_bar()
