"""Learning rates as functions of the images seen."""

from __future__ import annotations

import math


def learning_rate_factor(images_seen: int, first: int, last: int, warmup: int, end: float) -> float:
    """Factor on the peak learning rate at `images_seen` of a phase that runs from `first` to `last`.

    Linear from 0 over `warmup` images, then a cosine down to `end` (Loshchilov and Hutter, 1608.03983).
    """
    done = images_seen - first
    rise = min(1.0, (done + 1) / warmup) if warmup else 1.0
    return rise * cosine(min(1.0, done / max(1, last - first)), end)


def cosine(progress: float, end: float) -> float:
    """Half a cosine from 1 at `progress` 0 to `end` at 1."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def ramp(progress: float, begin: float, length: float) -> float:
    """From 0 at `begin` linearly to 1 at `begin` + `length`, all shares of the run; a step where `length` is 0."""
    return min(1.0, max(0.0, progress - begin) / length) if length else float(progress >= begin)
