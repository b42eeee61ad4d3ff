"""A run's batches on its device: kept there whole, or gathered by a thread while the step before computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.data.image_store import ImageStore
from hfgen.data.stream import ImageStream


class Batch(NamedTuple):
    """A process's share of a batch. `images`: uint8 (n, C, R, R); `labels`: int64 (n,), or None."""

    images: Tensor
    labels: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Both, changed."""
        return Batch(change(self.images), None if self.labels is None else change(self.labels))


def to_gpu_if_it_fits(store: ImageStore | ImageStream, device: torch.device) -> ImageStore | ImageStream:
    """The store with its uint8 images on a GPU if they fill at most half of what is free there, else as it is.

    Batches are then gathered without crossing the bus.
    """
    if device.type != "cuda" or isinstance(store, ImageStream):
        return store
    if store.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return store
    return dataclasses.replace(store, images=store.images.to(device), mapping=None)


class Feed:
    """The batches of a run, by images seen: those of `batch_indices`, bit for bit, however they come.

    Where images wait for a disk or cross a bus, a thread gathers the next batch meanwhile: `batch(seen)` starts that
    of `seen + batch_size`, and gathers by itself what wasn't started. For a GPU, batches lie in page-locked
    memory, which is copied while the GPU computes.

    Args:
        store: Where from.
        batch_size: Of all processes together; a multiple of `processes`.
        seed: Of the run.
        device: Where batches are wanted; `store` stays there, if it fits.
        rank: Which share of each batch is this process's.
        processes: How many shares there are.
    """

    def __init__(
        self,
        store: ImageStore | ImageStream,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self._store = to_gpu_if_it_fits(store, device)
        self._size, self._seed, self._device = batch_size, seed, device
        self._rank, self._processes = rank, processes
        at_hand = self._store.at_hand
        ahead = self._store is not at_hand or at_hand.mapping is not None or at_hand.images.device.type != device.type
        self._thread = ThreadPoolExecutor(1, "hfgen-feed") if ahead else None
        self._next: tuple[int, Future[Batch]] | None = None

    @property
    def store(self) -> ImageStore:
        """All images, on the device if they fit; of a stream those at hand."""
        return self._store.at_hand

    def batch(self, images_seen: int) -> Batch:
        """The share of the batch after `images_seen` images, on the device.

        Raises:
            OSError: the images can't be read any more.
        """
        started, self._next = self._next, None
        here = started[1].result() if started and started[0] == images_seen else self._gather(images_seen)
        if self._thread is not None:
            following = images_seen + self._size
            self._next = following, self._thread.submit(self._gather, following)
        return here.each(lambda part: part.to(self._device, non_blocking=True))

    def _gather(self, images_seen: int) -> Batch:
        found = Batch(*self._store.share(images_seen, self._size, self._seed, self._rank, self._processes))
        if self._device.type != "cuda" or found.images.is_cuda:
            return found
        return found.each(Tensor.pin_memory)

    def close(self) -> None:
        """Stop the thread, which ends its batch first."""
        self._next = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
