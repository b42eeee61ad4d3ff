"""From a config to a published pipeline: the folder is claimed, then steps and what comes between them."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from hfgen.data import ImageStore, ImageStream, open_store, open_stream
from hfgen.training.cadence import Cadence, OnCheckpoint
from hfgen.training.config import RunConfig
from hfgen.training.interrupts import Interrupts
from hfgen.training.processes import check_alike, decide
from hfgen.training.run_folder import claim_folder, computed_last, is_finished, refuse_busy, sole_run
from hfgen.training.trackers import make_accelerator
from hfgen.training.trainer import Trainer

logger = logging.getLogger("hfgen")


def train(config: RunConfig, out: Path, *, resume: str = "auto", on_checkpoint: OnCheckpoint | None = None) -> Path:
    """Train until `config.max_images` were seen and return `out`/pretrained.

    Repeating the call continues from the newest complete checkpoint and ends with the same bits as a run that was
    never interrupted; a finished run returns at once, without a look at its data. The main process decides which, and
    calls `on_checkpoint` with the folder and the images seen of each checkpoint that it wrote.

    Raises:
        UserError: bad data or settings, `out` holds another run, or a non-finite loss.
        Interrupted: Ctrl-C or SIGTERM arrived; the state was saved.
    """
    accelerator = make_accelerator(config, out)
    main = accelerator.is_main_process
    if decide(accelerator, lambda: is_finished(out, config, resume)):
        if main:
            logger.info("%s is finished already; for data that have changed since, choose another --out", out)
        return out / "pretrained"
    # Before a stream is opened, which is removed when this process ends: it would be that of the other run.
    decide(accelerator, lambda: refuse_busy(out))
    with contextlib.ExitStack() as held:
        # Every process builds its trainer before the folder is claimed: settings that can't work leave no files.
        images = held.enter_context(contextlib.closing(open_data(config, out)))
        store = images.at_hand
        check_alike(
            accelerator, store.fingerprint, f"data: {config.data} isn't the same in every process; give them one"
        )
        trainer = Trainer(config, images, accelerator, decide(accelerator, lambda: computed_last(out)))
        cadence = Cadence(trainer, out, on_checkpoint)

        def claim() -> None:
            held.enter_context(sole_run(out))
            claim_folder(out, config, store, resume)

        decide(accelerator, claim)
        cadence.resume()
        bar = held.enter_context(cadence.begin())
        interrupts = held.enter_context(Interrupts(accelerator))
        held.enter_context(trainer.feed)
        with contextlib.closing(cadence.trackers):
            while trainer.images_seen < trainer.last_image:
                trainer.step()
                cadence.after_step()
                bar.update(config.batch_size)
                if interrupts.arrived(trainer.images_seen // config.batch_size):
                    cadence.save()
                    interrupts.stop(out, trainer.images_seen)
        cadence.publish()
    return out / "pretrained"


def open_data(config: RunConfig, out: Path = Path()) -> ImageStore | ImageStream:
    """The images of a run, whose folder is `out`: all of them, or a stream of shards."""
    asked: dict[str, Any] = {
        "split": config.split,
        "resolution": config.resolution,
        "channels": "auto" if config.channels == "auto" else int(config.channels),
        "small_images": config.small_images,
        "skip_damaged": config.skip_damaged,
        "condition": config.model.paired_with,
        "image_column": config.image_column or None,
        "label_column": config.label_column or None,
        "config_name": config.config_name or None,
    }
    if config.stream:
        return open_stream(config.data, held=config.stream, seed=config.seed, run=str(out.resolve()), **asked)
    return open_store(config.data, **asked)
