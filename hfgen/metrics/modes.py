"""Modes of data that has known ones: how many a generator hits, how evenly, and how much of it is none of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.intervals import Estimate, squared_distance_estimate, wilson
from hfgen.metrics.neighbours import nearest_distances
from hfgen.metrics.occupancy import distinct

IMAGES_PER_MODE = 26
"""As customary for the 1000 modes of stacked digits: 26,000 samples (Lin et al., 1712.04086)."""

REJECTED = -1
"""The class of an image that is of none."""

_REJECTS = 0.025
_ENDS, _NORMAL_95 = (0.025, 0.975), 1.96


class Modes(NamedTuple):
    """`hit` of the known modes, and KL(generated || real) in nats, 0 for equal shares (Metz et al., 1611.02163).

    The KL is infinite where a mode is generated that the real classes don't hold: give enough of them.
    """

    hit: int
    kl: float


class ModeUse(NamedTuple):
    """The same with intervals for the mean at as many images, and the share of images that are of no mode.

    `kl`: None where fewer than 26 images a mode were given, or all were rejected: it would be chance.
    """

    hit: Estimate
    kl: Estimate | None
    rejected: Estimate


class Recognition(NamedTuple):
    """What an image must have to count as one of its class: at least this confidence, at most this distance."""

    confidence: float
    distance: float


def modes(real: Tensor, generated: Tensor, count: int) -> Modes:
    """Compare the classes (N,) of real images with those (M,) that a classifier gives generated ones.

    Both are integers in [0, `count`), or -1 for generated images that were rejected (`accepted_modes`), which don't
    count. A mode is hit where one image at least is of it, so that the number depends on M: 26 images of each mode are
    usual. With few images the KL of a perfect generator isn't 0 but about (count - 1) / 2 * (1 / M + 1 / N).

    Raises:
        UserError: no images, values that aren't integers or out of range.
    """
    p, q = _shares(real, "real", count, 0), _shares(generated, "generated", count, REJECTED)
    seen = q > 0
    return Modes(int(seen.sum()), float((q[seen] * (q[seen] / p[seen]).log()).sum()))


def recognition(confidences: Tensor, distances: Tensor) -> Recognition:
    """What 95 % of real images have: their confidences (N,) and distances (N,) in `accepted_modes`'s sense.

    A classifier is confident of what it never saw, such as black images; those lie far from real ones. What lies near,
    such as an average of all, it isn't confident of.
    """
    return Recognition(float(confidences.double().quantile(_REJECTS)), float(distances.quantile(1 - _REJECTS)))


def accepted_modes(
    classes: Tensor, confidences: Tensor, features: Tensor, real_features: Tensor, needed: Recognition
) -> Tensor:
    """Classes (M,) with -1 for images that aren't recognised as any.

    `confidences` (M,): how sure the classifier is, in [0, 1]. The distance is that of the features (M, D) to the
    nearest of real images (N, D).
    """
    distances = nearest_distances(features.double(), real_features.double())
    accepted = (confidences.double() >= needed.confidence) & (distances <= needed.distance)
    return torch.where(accepted, classes, REJECTED)


def enough_for_modes(images: int, count: int) -> bool:
    """Whether there are 26 images a mode."""
    return images >= IMAGES_PER_MODE * count


def modes_intervals(counts: Tensor, generated: Tensor, images_per_mode: int = IMAGES_PER_MODE) -> ModeUse:
    """`modes` of real images with `counts` (K,) of each class and generated ones of classes (M,), -1 for rejected ones.

    Intervals are for the mean value at M images, on which hit and KL depend; the real counts are taken as given. The KL
    takes `images_per_mode` generated images for each.

    Raises:
        UserError: as `modes`, fewer than four generated images, or one of a class that no real image has.
    """
    if len(generated) < 4:
        raise UserError(f"generated: {len(generated)} images are too few; give at least 4")
    count, size = len(counts), len(generated)
    real = torch.arange(count).repeat_interleave(counts)
    whole = modes(real, generated, count)
    if whole.kl == float("inf"):
        raise UserError("generated: a class that no real image has; count the modes of more real images")
    accepted = generated[generated != REJECTED]
    rejected = wilson(1 - len(accepted) / size, size)
    if len(accepted) == 0:
        return ModeUse(Estimate(0.0, 0.0, 1.0, size), None, rejected)
    found = distinct(accepted[:, None], count)
    hit = Estimate(found.value, found.low, found.high, size)
    kl = _divergence(whole.kl, counts, accepted) if size >= images_per_mode * count else None
    return ModeUse(hit, kl, rejected)


def _divergence(value: float, counts: Tensor, classes: Tensor) -> Estimate:
    """The KL's interval: a squared distance, once what chance adds is taken off.

    Chance alone makes 2 M KL a chi-square with a degree of freedom for each mode beyond the first. How far a mode may
    move the KL up and down follows from the interval of its own number, which is lopsided where that is small; the
    squares add up (MOVER, Zou & Donner 2008).
    """
    from scipy.special import gammaincinv

    size, known = len(classes), counts > 0
    drawn = torch.bincount(classes, minlength=len(counts))[known].double()
    shares = counts[known] / counts.sum()
    slopes = 1 + value + shares.log()

    def part(numbers: Tensor) -> Tensor:
        """What modes of so many images add to the KL, those of the others shrinking as these grow."""
        q = numbers / size
        return torch.special.xlogy(q, q) - q * slopes

    # Jeffreys' interval of a Poisson number.
    ends = [part(torch.from_numpy(gammaincinv(drawn.numpy() + 0.5, end))) - part(drawn) for end in _ENDS]
    moves = torch.stack([*ends, torch.zeros_like(drawn)])
    bias = (int((drawn > 0).sum()) - 1) / (2 * size)
    chance = bias / size
    variances = (float(most.square().sum()) / _NORMAL_95**2 - chance for most in (moves.amax(0), moves.amin(0)))
    up, down = (squared_distance_estimate(value - bias, max(each, chance), chance, size) for each in variances)
    return Estimate(value, min(max(down.low + bias, 0.0), value), up.high + bias, size)


def _shares(classes: Tensor, name: str, count: int, least: int) -> Tensor:
    """Of each class among those that aren't rejected; all 0 where all are."""
    if classes.ndim != 1 or len(classes) == 0 or classes.is_floating_point():
        kind = f"{str(classes.dtype).removeprefix('torch.')} {tuple(classes.shape)}"
        raise UserError(f"{name}: {kind} isn't a list of classes; give one integer an image")
    low, high = int(classes.min()), int(classes.max())
    if low < least or high >= count:
        raise UserError(f"{name}: class {low if low < least else high} is out of range; give 0 to {count - 1}")
    accepted = classes[classes >= 0].long()
    return torch.bincount(accepted, minlength=count).double() / max(len(accepted), 1)
