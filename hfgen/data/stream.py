"""Images of which a few shards at a time are decoded on the disk, and the next one is fetched meanwhile."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hfgen.data.image_store import ImageStore
from hfgen.data.shard_order import ShardOrder, Span
from hfgen.files import remove_folder

Load = Callable[[int, Path, threading.Event], ImageStore]
"""(a shard, its folder, set when it isn't wanted any more) -> its images, mapped from the folder."""


class ImageStream:
    """A split whose shards come and go, in the order of `ShardOrder`: at most `order.held` and one more on the disk.

    The processes of a machine share the shards on its disk: one of them decodes each.

    Attributes:
        at_hand: The first images of the run, which `batch_indices` of them gives in its order; with the classes and
            the fingerprint of all.

    Args:
        order: Of the images, over all shards.
        folder: Where the shards lie, each in a folder of its number; of this run alone.
        load: Decodes a shard into a folder, unless it is there.
    """

    at_hand: ImageStore

    def __init__(self, order: ShardOrder, folder: Path, load: Load) -> None:
        self._order, self._folder, self._load = order, folder, load
        self._held: dict[int, ImageStore] = {}
        self._ahead: tuple[int, Future[ImageStore]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()

    def __len__(self) -> int:
        return len(self._order)

    def share(
        self, images_seen: int, count: int, seed: int, rank: int = 0, processes: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """See `ImageStore.share`; in the order of `ShardOrder`.

        Raises:
            DataError: a shard can't be fetched or decoded.
        """
        own = count // processes
        start, images, labels = images_seen + rank * own, list[Tensor](), list[Tensor]()
        with self._lock:
            # All processes move on alike, whatever part of the batch is theirs.
            for span in self._order.spans(images_seen, count, seed):
                self._hold(span)
                self._fetch(span.following)
                rows = span.rows[max(0, start - images_seen) : max(0, start + own - images_seen)]
                images_seen += len(span.rows)
                if len(rows):
                    self._gather(rows, images, labels)
        return torch.cat(images), torch.cat(labels) if labels else None

    def _gather(self, rows: Tensor, images: list[Tensor], labels: list[Tensor]) -> None:
        shards = np.searchsorted(self._order.first, rows.numpy(), side="right") - 1
        some = self._held[int(shards[0])]
        found = torch.empty((len(rows), *some.images.shape[1:]), dtype=torch.uint8)
        classes = None if some.labels is None else torch.empty(len(rows), dtype=torch.int64)
        for shard in np.unique(shards).tolist():
            places, store = torch.from_numpy(np.flatnonzero(shards == shard)), self._held[shard]
            own = rows[places] - self._order.first[shard]
            found[places] = store.gather(own)
            if classes is not None and store.labels is not None:
                classes[places] = store.labels[own]
        images.append(found)
        labels += [] if classes is None else [classes]

    def _hold(self, span: Span) -> None:
        """Let go of what the span doesn't need, and load what isn't there."""
        if not self._held:
            self._remove_leftovers(span)
        for shard in self._held.keys() - set(span.shards):
            del self._held[shard]
            self._remove(shard)
        if self._ahead is not None and self._ahead[0] != span.following:
            (shard, loading), self._ahead = self._ahead, None
            if shard in span.shards:
                self._held[shard] = loading.result()
            elif not loading.cancel():
                loading.exception()
                self._remove(shard)
        for shard in span.shards:
            if shard not in self._held:
                self._held[shard] = self._load(shard, self._place(shard), self._ended)

    def _fetch(self, shard: int) -> None:
        """Begin to load a shard that will be needed next."""
        if shard in self._held or self._ahead is not None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "hfgen-shards")
        self._ahead = shard, self._thread.submit(self._load, shard, self._place(shard), self._ended)

    def _place(self, shard: int) -> Path:
        return self._folder / f"{shard:06d}"

    def _remove(self, shard: int) -> None:
        # Another process may have been faster.
        with contextlib.suppress(OSError):
            remove_folder(self._place(shard))

    def _remove_leftovers(self, span: Span) -> None:
        """Remove what a killed run left, but the shards that are needed: another process may be writing them."""
        needed = {self._place(shard).name for shard in (*span.shards, span.following)}
        for path in self._folder.glob("*"):
            number = re.match(r"\.?(\d+)", path.name)
            if number is None or number[1] in needed:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop loading, and remove the shards from the disk."""
        self._ended.set()
        with self._lock:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)
                self._thread = self._ahead = None
            self._held.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
