"""The order of images in shards, by the number of images seen: few shards at a time, mixed with each other."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.seeds import derive_seed


class Span(NamedTuple):
    """A part of the order for which the same shards are needed.

    Attributes:
        shards: Their numbers.
        following: The shard that the next span needs beside them.
        rows: Its images, int64 (n,), counted over all shards.
    """

    shards: tuple[int, ...]
    following: int
    rows: Tensor


class ShardOrder:
    """An endless order of images, of which each epoch holds every one once; any place in it is computed.

    An epoch permutes the shards. Each is permuted by itself, cut into as many parts as shards are held, and gives one
    part to each of the spans in which it is held; a span permutes the parts that it gets. From span to span one shard
    goes and one comes, from epoch to epoch too: the last `held` - 1 shards are the same in every epoch, and are held
    over its end, so that an epoch's first spans are as mixed as the others.

    Args:
        sizes: Images of each shard, at least one.
        held: How many shards are held at a time; all, where there are fewer.
    """

    def __init__(self, sizes: Sequence[int], held: int) -> None:
        if not sizes or min(sizes) < 1 or held < 1:
            raise ValueError(f"no order for {sizes=}, {held=}")
        self.sizes, self.held = tuple(sizes), min(held, len(sizes))
        self.first = [0, *itertools.accumulate(sizes)]
        # An epoch and the next, a span and the next: a batch may reach from one into the other.
        self._epoch, self._rows = lru_cache(2)(self._draw_epoch), lru_cache(2)(self._draw_rows)

    def __len__(self) -> int:
        return self.first[-1]

    def spans(self, images_seen: int, count: int, seed: int) -> Iterator[Span]:
        """The images at the places `images_seen` to `images_seen + count`, span by span, none of them empty."""
        if images_seen < 0 or count < 1:
            raise ValueError(f"no batch for {images_seen=}, {count=}")
        stop = images_seen + count
        while images_seen < stop:
            epoch, place = divmod(images_seen, len(self))
            shards, ends = self._epoch(seed, epoch)
            number = bisect.bisect_right(ends, place)
            begin = ends[number] - len(rows := self._rows(seed, epoch, number))
            found = rows[place - begin : place - begin + stop - images_seen]
            last = number + 1 == len(shards)
            following = self._epoch(seed, epoch + 1)[0][0] if last else shards[number + 1]
            yield Span(self._held(shards, number), following, found)
            images_seen += len(found)

    def _held(self, shards: Sequence[int], number: int) -> tuple[int, ...]:
        """The shards of a span, the one that came last first."""
        return tuple(shards[(number - back) % len(shards)] for back in range(self.held))

    def _draw_epoch(self, seed: int, epoch: int) -> tuple[list[int], list[int]]:
        """The shards in the order in which they come, and where the span that begins with each ends."""
        count = len(self.sizes)
        same = _permutation(count, "shards", seed)
        others = same[self.held - 1 :]
        others = others[_permutation(len(others), "epoch of shards", seed, epoch)]
        shards = torch.cat([others, same[: self.held - 1]]).tolist()
        lengths = (
            sum(len(self._part(shard, back)) for back, shard in enumerate(self._held(shards, number)))
            for number in range(count)
        )
        return shards, list(itertools.accumulate(lengths))

    def _part(self, shard: int, part: int) -> range:
        """The places in its own permutation that a shard gives to the span `part` after the one in which it came."""
        size = self.sizes[shard]
        return range(size * part // self.held, size * (part + 1) // self.held)

    def _draw_rows(self, seed: int, epoch: int, number: int) -> Tensor:
        parts = []
        for back, shard in enumerate(self._held(self._epoch(seed, epoch)[0], number)):
            own, part = _permutation(self.sizes[shard], "shard", seed, epoch, shard), self._part(shard, back)
            parts.append(self.first[shard] + own[part.start : part.stop])
        rows = torch.cat(parts)
        return rows[_permutation(len(rows), "span", seed, epoch, number)]


def _permutation(size: int, *purpose: int | str) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(derive_seed(*purpose)))
