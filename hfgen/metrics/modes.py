"""Modes of data that has known ones: how many a generator hits, and how evenly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.intervals import Estimate, half_memberships, normal_estimate


class Modes(NamedTuple):
    """`hit` of the known modes, and KL(generated || real) in nats, 0 for equal shares (Metz et al., 1611.02163).

    The KL is infinite where a mode is generated that the real classes don't hold: give enough of them.
    """

    hit: int
    kl: float


def modes(real: Tensor, generated: Tensor, count: int) -> Modes:
    """Compare the classes (N,) of real images with those (M,) that a classifier gives generated ones.

    Both are integers in [0, `count`). As customary, a mode is hit where one image at least is of it, so that the
    number depends on M: 26 images of each of the 1000 modes of `stacked` are usual. With few images the KL of a
    perfect generator isn't 0 but about (count - 1) / 2 * (1 / M + 1 / N).

    Raises:
        UserError: no images, values that aren't integers or out of range.
    """
    shares = []
    for name, classes in (("real", real), ("generated", generated)):
        if classes.ndim != 1 or len(classes) == 0 or classes.is_floating_point():
            kind = f"{str(classes.dtype).removeprefix('torch.')} {tuple(classes.shape)}"
            raise UserError(f"{name}: {kind} isn't a list of classes; give one integer an image")
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= count:
            raise UserError(f"{name}: class {low if low < 0 else high} is out of range; give 0 to {count - 1}")
        shares.append(torch.bincount(classes.long(), minlength=count).double() / len(classes))
    p, q = shares
    seen = q > 0
    return Modes(int(seen.sum()), float((q[seen] * (q[seen] / p[seen]).log()).sum()))


def modes_intervals(counts: Tensor, generated: Tensor, *, seed: int) -> tuple[Estimate, Estimate]:
    """`modes`, hit and KL, of real images with `counts` (K,) of each class and generated ones of classes (M,).

    Intervals are for the mean value at M images, on which both depend; the real counts are taken as given.

    Raises:
        UserError: as `modes`, fewer than four generated images, or one of a class that no real image has.
    """
    if len(generated) < 4:
        raise UserError(f"generated: {len(generated)} images are too few; give at least 4")
    count = len(counts)
    real = torch.arange(count).repeat_interleave(counts)
    whole = modes(real, generated, count)
    if whole.kl == float("inf"):
        raise UserError("generated: a class that no real image has; count the modes of more real images")
    halves = half_memberships(len(generated), torch.Generator().manual_seed(seed)).T
    spread = torch.tensor([modes(real, generated[half], count) for half in halves], dtype=torch.float64).std(0)
    hit, divergence = (
        normal_estimate(float(value), float(error), len(generated)) for value, error in zip(whole, spread, strict=True)
    )
    return Estimate(hit.value, max(hit.low, 0.0), min(hit.high, float(count)), hit.n), divergence
