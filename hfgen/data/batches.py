"""Which images a batch holds, by the number of images seen: one stream, however it is cut into batches."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from hfgen.seeds import derive_seed


def batch_indices(size: int, images_seen: int, count: int, seed: int) -> Tensor:
    """Positions `images_seen` to `images_seen + count` of an endless stream of permuted epochs.

    Epoch e is a permutation of range(size) drawn from (seed, e) alone; a batch may cross epochs.

    Returns:
        int64 (count,), each in [0, size).
    """
    if size < 1 or images_seen < 0 or count < 1:
        raise ValueError(f"no batch for {size=}, {images_seen=}, {count=}")
    stop = images_seen + count
    first, last = images_seen // size, (stop - 1) // size
    return torch.cat(
        [
            _permutation(size, seed, epoch)[max(0, images_seen - epoch * size) : stop - epoch * size]
            for epoch in range(first, last + 1)
        ]
    )


# An epoch and the next, which a batch may reach into: 8 bytes an image each.
@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed("epoch", seed, epoch))
    return torch.randperm(size, generator=generator)
