"""Experiment trackers through Accelerate, beside log.jsonl; a tracker that fails never stops a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hfgen.training.config import RunConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("hfgen")


def make_accelerator(config: RunConfig, out: Path) -> Accelerator:
    """The engine of this process, with the trackers of `config.log_with` that are installed."""
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import ProjectConfiguration

    installed = {str(name) for name in get_available_trackers()}
    if config.log_with not in ("none", "all", *installed):
        logger.warning("log_with: %s isn't installed; `pip install %s`", config.log_with, config.log_with)
    wanted = config.log_with if config.log_with in ("all", *installed) else None
    return Accelerator(log_with=wanted, project_config=ProjectConfiguration(logging_dir=str(out / "trackers")))


class Trackers:
    """The accelerator's trackers, from the run's first line to its last."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._started = False

    def log(self, config: RunConfig, out: Path, values: Mapping[str, float], images_seen: int) -> None:
        """Hand one line on; at the first failure warn, and leave the trackers alone from then on."""
        accelerator = self._accelerator
        if not accelerator.log_with:
            return
        try:
            if not self._started:
                name = {"name": out.name}
                accelerator.init_trackers("hfgen", init_kwargs={"wandb": name, "trackio": name})
                for tracker in accelerator.trackers:
                    if tracker.name != "tensorboard":  # whose table of settings takes flat values only
                        tracker.store_init_configuration(config.as_dict())
                self._started = True
            accelerator.log(dict(values), step=images_seen)
        except Exception as error:
            logger.warning("log_with: %s failed (%s); log.jsonl goes on", config.log_with, " ".join(str(error).split()))
            accelerator.log_with = []

    def close(self) -> None:
        """Flush and close."""
        if self._started:
            self._accelerator.end_training()
