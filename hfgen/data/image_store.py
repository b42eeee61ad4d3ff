"""Images decoded to uint8, in memory or mapped from the disk: what training and evaluation gather from."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass, field

from torch import Tensor

from hfgen.data.batches import batch_indices


@dataclass(frozen=True)
class ImageStore:
    """One split at one resolution.

    Attributes:
        images: uint8 (N, C + condition_channels, R, R), each image's condition behind it; in memory or, where that
            is too large, mapped from the cache.
        labels: int64 (N,), -1 where unknown; None without a column of labels.
        label_names: the name of each class, where the data gives names.
        fingerprint: SHA-256 (hex) of the pixels, the labels and the shape.
        source: DATA as given; for a Hub id, with the commit as its revision.
        split: the split that was really used: `validation`, say, where `test` was asked for and isn't there.
        resolution: R, in pixels.
        channels: C: 1 (grey) or 3 (RGB).
        skipped: how many damaged images were left out.
        condition_channels: channels of the images that condition these; 0 where none were asked for.
        mapping: the cache's file, where the images are mapped from it; it ends with their pixels.
        notes: a line each: what of the data was converted, left out or guessed.
        factors: sizes of the factors of a label, where DATA knows of several.
    """

    images: Tensor
    labels: Tensor | None
    label_names: list[str] | None
    fingerprint: str
    source: str
    split: str
    resolution: int
    channels: int
    skipped: int
    condition_channels: int = 0
    mapping: mmap.mmap | None = field(default=None, repr=False, compare=False)
    notes: list[str] = field(default_factory=list)
    factors: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart; 0 where an image has none."""
        if self.labels is None or int(self.labels.min()) < 0:
            return 0
        return len(self.label_names) if self.label_names else int(self.labels.max()) + 1

    @property
    def label_factors(self) -> tuple[int, ...]:
        """Sizes of the independent factors that make up a label, the most significant first; one: it is no product."""
        return self.factors if len(self.factors) > 1 else (self.classes,)

    @property
    def targets(self) -> Tensor:
        """The images (N, C, R, R) without their conditions, in the same memory."""
        return self.images[:, : self.channels]

    @property
    def revision(self) -> str | None:
        """The commit of a Hub dataset; None for anything else."""
        commit = re.fullmatch(r"[\w.-]+/[\w.-]+@([0-9a-f]{40})", self.source)
        return commit[1] if commit else None

    @property
    def at_hand(self) -> ImageStore:
        """The images that may be looked at before the first step and between steps: all."""
        return self

    def share(
        self, images_seen: int, count: int, seed: int, rank: int = 0, processes: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """A process's share of the `count` images after `images_seen`, in the order of `batch_indices`.

        Args:
            images_seen: Images of the run before these.
            count: Of all processes together; a multiple of `processes`.
            seed: Of the run.
            rank: Which share.
            processes: How many shares there are.

        Returns:
            uint8 (n, C, R, R) on the store's device, and int64 (n,) or None: their labels.
        """
        indices = batch_indices(len(self), images_seen, count, seed).chunk(processes)[rank]
        return self.gather(indices), None if self.labels is None else self.labels[indices]

    def close(self) -> None:
        """Nothing: images in memory need no end."""

    def gather(self, indices: Tensor) -> Tensor:
        """A copy of the images at `indices`, int64 (n,): uint8 (n, C, R, R), on the device that holds the store's."""
        if self.mapping is not None:
            self._prefetch(indices)
        # Advanced indexing would copy pixel by pixel, at a sixth of the speed.
        return self.images.index_select(0, indices.to(self.images.device))

    def _prefetch(self, indices: Tensor) -> None:
        """Ask the disk for all the images at once, rather than for one after the other as they are touched."""
        if self.mapping is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size = self.images[0].nbytes
        pixels = len(self.mapping) - self.images.nbytes
        for index in indices.tolist():
            start = pixels + index * size
            page = start - start % mmap.PAGESIZE
            self.mapping.madvise(mmap.MADV_WILLNEED, page, start + size - page)
