"""What the parts of `benchmark.py gpu` share: settings, rows, and the trainer of a recipe."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Value = float | int | str | bool
Row = tuple[str, Callable[[], dict[str, Value]]]

FAMILIES = ("vae", "vaegan", "vqvae", "gan")


class LeftOut(Exception):
    """Something that the row needs isn't on this machine."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where, on what, into which folder; `toy` is the smallest size of everything."""

    device: str
    data: str
    out: Path
    toy: bool
    training_minutes: float = 4


@dataclasses.dataclass(frozen=True)
class Part:
    """What is measured in one process.

    Attributes:
        rows: One by one.
        minutes: After which it is ended, those of a training not counted.
        alone: Whether it has the card for itself, as what is timed.
        trains: Whether a training's minutes come on top.
    """

    rows: Callable[[Settings], Iterator[Row]]
    minutes: float
    alone: bool = True
    trains: bool = False

    def limit(self, training_minutes: float) -> float:
        """The minutes in all."""
        return self.minutes + self.trains * training_minutes


def made_once(folder: Path, make: Callable[[Path], Any]) -> Path:
    """What `make` writes into a folder, whole or not at all, once, also where several parts ask at once."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            # Not on the disk for certain, as `atomic_folder` would: with many files that takes minutes.
            temporary = folder.with_name(f".{folder.name}")
            shutil.rmtree(temporary, ignore_errors=True)
            make(temporary)
            temporary.replace(folder)
    return folder


def fields(settings: Settings, name: str, count: int, side: int) -> Path:
    """A folder of so many random fields for held-out images."""
    from benchmarks.evaluate import make_data

    return made_once(settings.out / "fields" / name, lambda folder: make_data(folder, count, side))


def make_trainer(settings: Settings, recipe: str, side: int, batch: int, *more: str) -> Any:
    """The trainer of a recipe on colour fields of that size, with every phase's terms from the first step on."""
    from accelerate import Accelerator

    from hfgen.configs import load_config
    from hfgen.data import open_store
    from hfgen.training.trainer import Trainer

    data = fields(settings, str(side), 8, side)
    overrides = [f"--data={data}", f"--resolution={side}", "--channels=3", "--max_images=100000000", *more]
    overrides.append(f"--batch_size={8 if settings.toy else batch}")
    name = recipe if "-" in recipe else f"{recipe}-glyphs"
    if name.startswith(("vaegan", "vqgan")):
        overrides += ["--model.adversarial_begin=0", "--model.adversarial_warmup=0"]
    if name.startswith(("vaegan", "vqgan")) and not any("perceptual" in override for override in more):
        overrides.append("--model.perceptual=none")
    if name.startswith("vqgan"):
        # The fields have no classes.
        overrides.append("--model.conditional=false")
    config = load_config(name, overrides)
    store = open_store(config.data, split="train", resolution=side, channels=3)
    return Trainer(config, store, Accelerator(cpu=settings.device == "cpu"))
