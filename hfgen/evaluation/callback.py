"""An evaluator every so many steps of somebody's training: of transformers' Trainer, or of a loop that calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from hfgen.errors import SettingsError
from hfgen.evaluation.evaluator import Evaluator
from hfgen.reporting.estimate_tables import Estimates
from hfgen.setting_bounds import whole_number

logger = logging.getLogger("hfgen")


class EvaluatorCallback(TrainerCallback):
    """`Trainer(..., callbacks=[EvaluatorCallback(evaluator, every=1000)])`, or `callback(step, model)` in a loop.

    In a Trainer, process 0 measures, and `state.log_history` gets the values. The network is left as it was.

    Args:
        evaluator: What it asks.
        every: So many steps apart.
        made: From the model in training to what `evaluator` is called with: a network, functions, or samples.
        log: Called with the values by name and the step, such as `lambda values, step: accelerator.log(values, step)`.
        prefix: Of the names that are logged.

    Attributes:
        history: (step, estimates), one a measurement.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        every: int = 1000,
        *,
        made: Callable[[Any], Any] = lambda model: model,
        log: Callable[[dict[str, float], int], None] | None = None,
        prefix: str = "hfgen/",
    ) -> None:
        if not callable(evaluator):
            raise SettingsError(f"evaluator: a {type(evaluator).__name__} measures nothing; give hfgen.Evaluator(...)")
        if whole_number("every", every) < 1:
            raise SettingsError(f"every: {every} steps; give 1 or more")
        self.evaluator, self.every, self.prefix = evaluator, every, prefix
        self._made, self._log = made, log
        self.history: list[tuple[int, Estimates]] = []

    def __call__(self, step: int, model: Any) -> Estimates | None:
        """Measure at each multiple of `every`; None at the other steps.

        Raises:
            UserError: what `Evaluator` refuses.
        """
        if step < 1 or step % self.every:
            return None
        found = self.evaluator(self._made(model))
        self.history.append((step, found))
        logger.info("step %d: %s", step, ", ".join(f"{name} {one.value:.4g}" for name, one in found.items()))
        if self._log is not None:
            self._log(self._named(found), step)
        return found

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        """See `transformers.TrainerCallback`."""
        found = self(state.global_step, model) if state.is_world_process_zero else None
        if found is not None:
            state.log_history.append({**self._named(found), "step": state.global_step})

    def _named(self, found: Estimates) -> dict[str, float]:
        return {f"{self.prefix}{name}": value for name, value in found.values_only.items()}
