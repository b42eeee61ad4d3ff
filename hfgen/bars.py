"""Progress bars: when hfgen draws its own, and those of the libraries below, switched off."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator


def quiet() -> bool:
    """Whether no bar is drawn: where the logger `hfgen` doesn't say what is done, as in other people's code."""
    return not logging.getLogger("hfgen").isEnabledFor(logging.INFO)


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
