"""The Space: several models on the same input and the same seed. Only `interface` and `endpoints` need Gradio."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Gradio reads it when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

RESULTS = ("comparison.json", "study.json", "posterior.json")
"""What `hfgen compare`, `study` and `study posterior` write of several models, and the Space shows."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: while packages are imported nothing is freed, and it takes a fifth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
