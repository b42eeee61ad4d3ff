"""Experiment trackers through Accelerate, beside log.jsonl; a tracker that fails never stops a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hfgen.errors import SettingsError
from hfgen.training.config import RunConfig
from hfgen.training.launcher import agree_with_launcher

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("hfgen")


def make_accelerator(config: RunConfig, out: Path) -> Accelerator:
    """The engine of this process, with the trackers of `config.log_with` that are installed.

    It computes in no precision of its own and compiles nothing: the trainer does.

    Raises:
        SettingsError: what the launcher asks contradicts the run or isn't supported.
    """
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import ProjectConfiguration

    agree_with_launcher(config)
    installed = {str(name) for name in get_available_trackers()}
    if config.log_with not in ("none", "all", *installed):
        logger.warning("log_with: %s isn't installed; `pip install %s`", config.log_with, config.log_with)
    wanted = config.log_with if config.log_with in ("all", *installed) else None
    project = ProjectConfiguration(logging_dir=str(out / "trackers"))
    try:
        accelerator = Accelerator(
            mixed_precision="no",
            dynamo_backend="no",
            gradient_accumulation_steps=1,
            log_with=wanted,
            project_config=project,
        )
    except ValueError as error:
        if "already been initialized" not in str(error):
            raise
        raise SettingsError(
            "mixed_precision: this process has an Accelerator of another precision already; train in a new process"
        ) from None
    if accelerator.state.dynamo_plugin.backend != "NO":
        raise SettingsError("dynamo_backend: this process has an Accelerator that compiles; train in a new process")
    if accelerator.distributed_type in ("XLA", "DEEPSPEED", "MEGATRON_LM"):
        raise SettingsError(f"launcher: {accelerator.distributed_type} isn't supported; launch with --multi_gpu")
    return accelerator


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
