"""Many metrics of one set of images: what isn't defined on it is left out, with its reason, and the others are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from hfgen.errors import UserError
from hfgen.metrics.intervals import Estimate

Found = TypeVar("Found", bound=Estimate | dict[str, Estimate])


class Collector:
    """Measures one metric after the other.

    Attributes:
        estimates: What was measured, by name.
        notes: What was left out and why, a line each.
    """

    def __init__(self, prefix: str = "") -> None:
        self.estimates: dict[str, Estimate] = {}
        self.notes: list[str] = []
        self._prefix = prefix

    def add(self, name: str, measure: Callable[[], Found]) -> None:
        """Keep the estimate, or the estimates by name, that `measure` gives."""
        found = self.attempt(name, measure)
        if found is not None:
            self.estimates.update(found if isinstance(found, dict) else {name: found})

    def note(self, line: str, *, of: str = "") -> None:
        """Keep a line about what was measured; `of` names the metrics that it is about, none: all."""
        self.notes.append(f"{self._prefix}{line}")

    def attempt(self, name: str, measure: Callable[[], Found]) -> Found | None:
        """What `measure` gives; None, and a note, where it fails or an interval isn't one of finite numbers."""
        try:
            found = measure()
        except UserError as error:
            # The remedy is for a call of the metric alone.
            reason = str(error).partition(";")[0]
        except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
            # Such as a decomposition that doesn't converge. The images are made and the other metrics are kept.
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        else:
            if all(map(_is_sound, found.values() if isinstance(found, dict) else [found])):
                return found
            reason = "it is non-finite"
        self.notes.append(f"{self._prefix}{name}: left out ({reason})")
        return None


def _is_sound(estimate: Estimate) -> bool:
    return -math.inf < estimate.low <= estimate.value <= estimate.high < math.inf
