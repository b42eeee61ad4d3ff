"""A run's checkpoints to a branch while it trains."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from hfgen.errors import UserError
from hfgen.hub.repository import Repository
from hfgen.publishing.publisher import publish

logger = logging.getLogger("hfgen")

BRANCH = "training"


class CheckpointPush:
    """Called with each checkpoint, it publishes one whenever `every` more images were seen.

    A thread does it: processes that wait for the main one would give up during a long upload. While it is busy, or
    where its checkpoint is dropped meanwhile, one is left out.

    Args:
        to: `org/name`; it is made, private or not, before the training begins.
        every: Images between two pushes; 0 for none.
        private: Make the repository private.
        license: As in `publish`.

    Raises:
        UserError: nothing could be written there, which is better known before the training than after it.
    """

    def __init__(self, to: str, every: int = 0, *, private: bool = False, license: str | None = None) -> None:
        self.to, self.every, self.license, self.pushed = to, every, license, 0
        self.thread: threading.Thread | None = None
        repository = Repository(to, "model")
        repository.retried(lambda: repository.ensure(private))

    def __call__(self, checkpoint: Path, images: int) -> None:
        """Begin to publish the checkpoint, if it is time."""
        busy = self.thread is not None and self.thread.is_alive()
        if busy or not self.every or images // self.every <= self.pushed // self.every:
            return
        self.pushed = images
        self.thread = threading.Thread(target=self._push, args=(checkpoint, images), daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """Wait for what was begun."""
        if self.thread is not None:
            self.thread.join()

    def _push(self, checkpoint: Path, images: int) -> None:
        """Publish; a failure is a warning, since the training goes on."""
        message = f"After {images:,} images"
        try:
            publish(checkpoint, self.to, revision=BRANCH, license=self.license, message=message)
        except (UserError, OSError) as error:
            logger.warning("the checkpoint of image %d wasn't pushed: %s", images, error)
