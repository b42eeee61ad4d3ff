"""What comes between a run's steps: log lines, sample grids, checkpoints; and what is published in the end."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from hfgen.bars import quiet
from hfgen.errors import UserError
from hfgen.files import atomic_folder, write_text
from hfgen.images import grid, unit_to_uint8, write_png
from hfgen.training import checkpoints
from hfgen.training.averaged_pipeline import averaged_pipeline, first_images
from hfgen.training.meters import Reading
from hfgen.training.processes import decide, send_state
from hfgen.training.run_folder import record_computed
from hfgen.training.trackers import Trackers
from hfgen.training.trainer import Trainer
from hfgen.training.warm_start import learn_ahead

logger = logging.getLogger("hfgen")

OnCheckpoint = Callable[[Path, int], None]


class Cadence:
    """A trainer, and the folder that its lines, grids and checkpoints go to.

    The main process calls `on_checkpoint` with the folder and the images seen of each checkpoint that it wrote.
    """

    def __init__(self, trainer: Trainer, out: Path, on_checkpoint: OnCheckpoint | None = None) -> None:
        self.trainer, self.config, self.out, self.on_checkpoint = trainer, trainer.config, out, on_checkpoint
        self.main = trainer.accelerator.is_main_process
        self.trackers = Trackers(trainer.accelerator)
        self.collapsed: set[str] = set()
        self.line_started = time.perf_counter()
        self.saved_at: int | None = None

    def begin(self) -> tqdm[NoReturn]:
        """Say how the run computes and keep it in its record; show how far it is."""
        trainer = self.trainer
        how = trainer.computes()
        if self.main:
            shared = f"; {how['processes']} processes{', FSDP2' if how['fsdp'] else ''}"
            place = trainer.store.images.device.type
            logger.info("%s%s; images on %s", trainer.kernels, shared if how["processes"] != 1 else "", place)
            record_computed(self.out, trainer.images_seen, how)
        self.line_started = time.perf_counter()
        seen, last = trainer.images_seen, trainer.last_image
        return tqdm(total=last, initial=seen, unit="img", disable=quiet() or not self.main, desc=self.out.name)

    def after_step(self) -> None:
        """The log line, the sample grid and the checkpoint that fall due after this step."""
        config, finished = self.config, self.trainer.images_seen >= self.trainer.last_image
        if self._due(config.log_every) or finished:
            self.log()
        draw, save = (self._due(every) or finished for every in (config.sample_every, config.checkpoint_every))
        pipeline = self.pipeline() if draw or save else None
        if draw:
            self.draw(pipeline)
        if save:
            self.write_checkpoint(pipeline)

    def _due(self, every: int) -> bool:
        """Whether the last step passed a multiple of `every`; never where `every` is 0."""
        seen = self.trainer.images_seen
        return every > 0 and seen // every > (seen - self.config.batch_size) // every

    # Log lines.

    def log(self) -> None:
        """Write the means since the last line; seconds go to a file of their own, since they never repeat."""
        images, processes = self.trainer.images_seen, self.trainer.accelerator.num_processes
        readings = self._read()
        self.trainer.meters.clear()
        seconds, self.line_started = time.perf_counter() - self.line_started, time.perf_counter()
        if not self.main:
            return
        means = {name: reading.mean for name, reading in readings.items() if math.isfinite(reading.mean)}
        skipped = {f"{name}/nonfinite": reading.nonfinite for name, reading in readings.items() if reading.nonfinite}
        self.warn(readings)
        _append_line(self.out / "log.jsonl", {"images": images, **means, **skipped})
        _append_line(self.out / "speed.jsonl", {"images": images, "seconds": round(seconds, 3), "processes": processes})
        self.trackers.log(self.config, self.out, {**means, **skipped}, images)

    def _read(self) -> dict[str, Reading]:
        """The terms since the last line.

        Raises:
            UserError: one was non-finite, and the run doesn't skip such steps.
        """
        readings = self.trainer.meters.read(self.trainer.accelerator.gather)
        bad = [(reading.first_step, name) for name, reading in readings.items() if reading.first_step is not None]
        if bad and self.config.on_nonfinite == "stop":
            # A term explains more than the gradient that it spoilt.
            first, name = min(bad, key=lambda pair: (pair[0], pair[1].endswith("/gradient_norm")))
            raise UserError(
                f"{name} was non-finite at step {first} (image {first * self.config.batch_size}); "
                f"{self._newest()}: repeat the command with --on_nonfinite skip, or in another --out with a smaller "
                "learning rate or --precision fp32"
            )
        return readings

    def _newest(self) -> str:
        folders = checkpoints.checkpoint_folders(self.out / "checkpoints")
        return f"the newest checkpoint is of image {int(folders[-1].name)}" if folders else "there is no checkpoint yet"

    def warn(self, readings: dict[str, Reading]) -> None:
        """Say what was skipped, and what has collapsed for two lines in a row."""
        for name, reading in readings.items():
            if reading.nonfinite:
                steps = reading.nonfinite
                logger.warning("%s was non-finite in %d steps before image %d", name, steps, self.trainer.images_seen)
        for phase in self.trainer.phases:
            begin = f"{phase.name}/"
            own = {name.removeprefix(begin): r.mean for name, r in readings.items() if name.startswith(begin)}
            # A term without a finite value says nothing of a collapse, and has been logged.
            tells = own and all(map(math.isfinite, own.values()))
            text = phase.watch(own) if phase.watch is not None and tells else None
            if text is None:
                self.collapsed.discard(phase.name)
            elif phase.name in self.collapsed:
                logger.warning("%s, before image %d", text, self.trainer.images_seen)
            else:
                self.collapsed.add(phase.name)

    # Sample grids.

    def pipeline(self) -> Any:
        """What would be published now; None except in the main process.

        Raises:
            UserError: a non-finite value went into it.
        """
        self._read()
        return averaged_pipeline(self.trainer)

    def draw(self, pipeline: Any) -> None:
        """Draw the same 64 images every time, so that the grids show the training and nothing else."""
        if pipeline is None:
            return
        images = pipeline.preview(torch.cat(list(first_images(self.trainer, 64))), torch.Generator().manual_seed(0))
        sheet = grid(unit_to_uint8(images), 8, zoom=max(1, 64 // self.config.resolution))
        write_png(self.out / "samples" / f"{self.trainer.images_seen:09d}.png", sheet)

    # Checkpoints.

    def save(self) -> None:
        """Write a checkpoint, unless this step has one; none that a non-finite value went into."""
        if self.saved_at != self.trainer.images_seen:
            self.write_checkpoint(self.pipeline())

    def write_checkpoint(self, pipeline: Any) -> None:
        """Write one around this pipeline, in the main process."""
        images, parent = self.trainer.images_seen, self.out / "checkpoints"
        state = self.trainer.state()
        if self.main:
            folder = parent / f"{images:012d}"
            checkpoints.save_checkpoint(folder, pipeline, state, images)
            checkpoints.drop_old(parent, self.config.keep_checkpoints)
            if self.on_checkpoint is not None:
                self.on_checkpoint(folder, images)
        self.saved_at = images
        self.trainer.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Continue from the newest complete checkpoint; where there is none, learn what comes before the first step.

        The main process reads it and sends it to the others, which may see another disk.
        """
        trainer, accelerator = self.trainer, self.trainer.accelerator
        found = checkpoints.newest_checkpoint(self.out / "checkpoints") if self.main else None
        images = decide(accelerator, lambda: found[0] if found is not None else None)
        if images is None:
            learn_ahead(trainer.phases, trainer.networks, trainer.averages, trainer.store, accelerator)
        else:
            trainer.load(images, send_state(accelerator, found[1] if found is not None else None))
            self.saved_at = images
        if self.main:
            for name in ("log.jsonl", "speed.jsonl"):
                _keep_lines(self.out / name, trainer.images_seen)

    def publish(self) -> None:
        """Put the last checkpoint's pipeline where users look for it."""
        if self.main:
            last = checkpoints.checkpoint_folders(self.out / "checkpoints")[-1]
            with atomic_folder(self.out / "pretrained") as temporary:
                shutil.copytree(last / "pretrained", temporary, dirs_exist_ok=True)
        self.trainer.accelerator.wait_for_everyone()


def _append_line(path: Path, values: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _keep_lines(path: Path, images_seen: int) -> None:
    """Cut the lines that a resumed run is about to write again, a half-written last one among them."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["images"] <= images_seen:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
