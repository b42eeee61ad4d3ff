"""From which letters were read before and after -> accuracy by height, and the smallest height that is kept."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.intervals import Estimate, wilson

# Of the originals' letters; below, a height says nothing of the reconstruction.
_READ = 0.5
_RESAMPLES = 500


class ReadAt(NamedTuple):
    """What was read at a height in pixels: shares of its `letters`, with intervals (Wilson 1927)."""

    height: int
    letters: int
    original: Estimate
    reconstruction: Estimate

    @property
    def is_read(self) -> bool:
        """Whether at least half of the originals' letters are."""
        return self.original.value >= _READ

    def as_shares(self) -> dict[str, Any]:
        """For JSON."""
        shares = {"original": self.original.value, "reconstruction": self.reconstruction.value}
        return {"height": self.height, "letters": self.letters, **shares}


def reading_curve(heights: list[int], of: Tensor, before: Tensor, after: Tensor) -> list[ReadAt]:
    """At each height, of letters with heights `of` (L,), read rightly `before` and `after` (L,); none: left out."""
    found = []
    for height in heights:
        chosen = of == height
        count = int(chosen.sum())
        if count:
            shares = (float(read[chosen].double().mean()) for read in (before, after))
            found.append(ReadAt(height, count, *(wilson(share, count) for share in shares)))
    return found


def reading_height(
    curve: list[ReadAt], of: Tensor, before: Tensor, after: Tensor, kept: float, *, seed: int
) -> Estimate:
    """The smallest letter height, in pixels, from which on the reconstructions keep a share of what was read before.

    Shares are made to rise with the height. Between two tested heights it is interpolated, along the logarithm; where
    all are kept, it is the smallest tested one. Heights that aren't read in the originals don't count. The interval is
    by resampling the letters.

    Raises:
        UserError: no height is read in the originals, or none keeps so much.
    """
    read = [point.height for point in curve if point.is_read]
    if not read:
        raise UserError("reading: no height is read in the originals")
    counts = torch.stack([torch.stack([(of == h) & right for right in (before, after)]).sum(1) for h in read]).double()
    letters = torch.tensor([int((of == height).sum()) for height in read], dtype=torch.float64)
    value = _height(read, counts, kept)
    if value is None:
        raise UserError(f"reading: not even letters of {read[-1]} px keep {kept:.0%} of what is read in the originals")
    generator = torch.Generator().manual_seed(seed)
    resampled = []
    joint = [_joint(of == height, before, after) for height in read]
    for _ in range(_RESAMPLES):
        drawn = torch.stack(
            [_drawn(shares, int(count), generator) for shares, count in zip(joint, letters, strict=True)]
        )
        height = _height(read, drawn, kept)
        resampled.append(float(read[-1]) if height is None else height)
    low, high = torch.tensor(resampled, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Estimate(value, min(low, value), max(high, value), int(letters.sum()))


def _height(heights: list[int], counts: Tensor, kept: float) -> float | None:
    """Where the shares of letters read before and after (H, 2), from the tallest down, fall below `kept`."""
    above = None
    for height, share in zip(reversed(heights), reversed(_rising(counts)), strict=True):
        if share < kept:
            if above is None:
                return None
            step = (kept - share) / (above[1] - share)
            return math.exp(math.log(height) + step * (math.log(above[0]) - math.log(height)))
        above = height, share
    return float(heights[0])


def _rising(counts: Tensor) -> list[float]:
    """The shares after over before, by the height, as the nearest ones that never fall (isotonic regression).

    Taller letters are read at least as well: what falls is chance, which would move the height far.
    """
    blocks: list[list[float]] = []
    for before, after in counts.clamp_min(1e-9).tolist():
        blocks.append([before, after, 1])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][0] > blocks[-1][1] / blocks[-1][0]:
            later = blocks.pop()
            blocks[-1] = [first + second for first, second in zip(blocks[-1], later, strict=True)]
    return [after / before for before, after, size in blocks for _ in range(int(size))]


def _joint(chosen: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Shares of a height's letters: read in both, before only, after only, in neither."""
    kinds = [before & after, before & ~after, ~before & after, ~before & ~after]
    return torch.stack([(chosen & kind).sum() for kind in kinds]).double() / chosen.sum()


def _drawn(shares: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Of as many letters drawn again: how many are read before, and after."""
    picks = torch.multinomial(shares, count, replacement=True, generator=generator).bincount(minlength=4)
    return torch.stack([picks[0] + picks[1], picks[0] + picks[2]]).double()
