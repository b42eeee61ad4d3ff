"""What a run is: one frozen dataclass, whose `model` is the family's own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from hfgen.data_options import DEFAULT_DATA, SmallImages
from hfgen.errors import SettingsError
from hfgen.setting_bounds import at_least

if TYPE_CHECKING:
    from hfgen.training.phases import Family


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A training run. Every count is in images seen, the run's only clock.

    Args:
        family: Name of the family; `model` holds its settings.
        model: The family's settings.
        data: Hub id, folder of images or parquet files, `glyphs` or `stacked`.
        image_column: Column of images, where the data have several; empty: the first that is called like one.
        label_column: Column of labels, likewise; none leaves them out.
        config_name: Configuration, where the data's card declares several.
        split: Split to train on; all takes the whole of an undivided set.
        resolution: Side of the square images, in pixels.
        channels: 1 (grey), 3 (RGB) or auto (what the images are).
        small_images: What becomes of images smaller than the resolution.
        skip_damaged: Leave damaged images out, and count them, instead of stopping.
        stream: Shards of parquet on the disk at a time, of data beyond one disk; 0 reads all before the first step.
        start_from: MODEL whose networks the run starts from, where they have the same name; empty: random weights.
        max_images: Images seen, in all, by the end of the run.
        batch_size: Images in a step, over all processes.
        seed: Seed of weights, order and noise.
        precision: auto takes bf16 where the machine computes faster in it.
        compiled: Mode of torch.compile; auto compiles on a GPU, reduce-overhead adds CUDA graphs.
        on_nonfinite: stop, or skip the update and count it, where a gradient is non-finite.
        log_with: Trackers beside log.jsonl; all takes every one that is installed.
        warmup_images: Images over which each phase's learning rate rises from 0.
        ema_half_life: Images after which an old weight counts half in the published average.
        log_every: Images between two lines of log.jsonl.
        sample_every: Images between two sample grids; 0 for none.
        checkpoint_every: Images between two checkpoints; 0 for the last one only.
        keep_checkpoints: How many of the newest checkpoints stay.
    """

    family: str
    model: Family
    data: str = DEFAULT_DATA
    image_column: str = ""
    label_column: str = ""
    config_name: str = ""
    split: str = "train"
    resolution: int = 32
    channels: Literal["auto", "1", "3"] = "auto"
    small_images: SmallImages = "refuse"
    skip_damaged: bool = False
    stream: int = 0
    start_from: str = ""
    max_images: int = 100_000
    batch_size: int = 64
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compiled: Literal["auto", "off", "default", "reduce-overhead"] = "auto"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_with: Literal["none", "tensorboard", "trackio", "wandb", "all"] = "none"
    warmup_images: int = 2_000
    ema_half_life: int = 2_000
    log_every: int = 2_000
    sample_every: int = 20_000
    checkpoint_every: int = 20_000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Refuse counts that no run can have."""
        counts = "max_images", "batch_size", "resolution", "log_every", "keep_checkpoints", "ema_half_life"
        at_least(1, self, *counts, prefix="")
        at_least(0, self, "warmup_images", "sample_every", "checkpoint_every", "seed", "stream", prefix="")
        if not self.start_from and self.model.needs_start is not None:
            raise SettingsError(self.model.needs_start)

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON values."""
        return dataclasses.asdict(self)
