"""Modes of data that has known ones: how many a generator hits, and how evenly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError


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
