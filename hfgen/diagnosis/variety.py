"""What a generator leaves out, and what it repeats."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hfgen import metrics
from hfgen.evaluation.held_out import HeldOut
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.metrics import Estimate
from hfgen.metrics.intervals import wilson
from hfgen.metrics.neighbours import covered, nearest_distances

_TRUSTED = 0.8
# A group is missing where its share among the samples is surely below so much of its share among real images.
_MISSING = 0.5
_FEWEST = 8
_GROUPS, _IMAGES_PER_GROUP = 20, 20
_NEAR = 0.01
_GALLERY = 8


@dataclass(frozen=True)
class Group:
    """A class or a cluster. `real`, `drawn`: shares; `members`: indices of held-out images in it, at most 8."""

    name: str
    real: float
    drawn: Estimate
    members: list[int]


@dataclass(frozen=True)
class Variety:
    """`estimates` by name; `kind`: classes or clusters; `missing`: those that are, the largest first."""

    estimates: dict[str, Estimate]
    kind: str
    missing: list[Group]

    @property
    def share(self) -> float:
        """Share of the real images that lies in missing groups."""
        return sum(group.real for group in self.missing)


def variety(real: HeldOut, samples: Tensor, seed: int, notes: metrics.Collector) -> Variety:
    """Compare uint8 samples (n, C, R, R) with the held-out images; what isn't defined is noted in `notes`."""
    features = real.extractor.features(samples)
    found = metrics.Collector("variety: ")
    shares = "precision, recall, density, coverage"
    found.add(shares, lambda: metrics.prdc_intervals(real.features, features, NEIGHBOURS, seed=seed))
    theirs = real.training_distances(features)
    found.add("training_distance", lambda: metrics.copying(real.own_distances, theirs, seed=seed))
    found.add("duplicates", lambda: _duplicates(real.features, features))
    notes.notes += found.notes
    kind, names, own, drawn = _groups(real, samples, features, seed)
    groups = [_group(name, index, own, drawn) for index, name in enumerate(names)]
    missing = [group for group in groups if group.drawn.high < _MISSING * group.real]
    missing = [group for group in missing if group.real * len(own) >= _FEWEST]
    if kind == "clusters" and missing:
        # A small shift of all samples moves many across a border, beyond which images are covered all the same.
        near = covered(real.features, features, NEIGHBOURS)
        missing = [group for group in missing if float(near[own == names.index(group.name)].double().mean()) < _MISSING]
    return Variety(found.estimates, kind, sorted(missing, key=lambda group: -group.real))


def _duplicates(real: Tensor, features: Tensor) -> Estimate:
    """Share of the samples nearer to another one than a hundredth of real images are to each other.

    Each half of a set is compared with the other half.
    """
    halves = [values[: len(values) // 2 * 2].tensor_split(2) for values in (real, features)]
    expected, found = (nearest_distances(first, second) for first, second in halves)
    return wilson(float((found < expected.quantile(_NEAR)).double().mean()), len(found))


def _groups(real: HeldOut, samples: Tensor, features: Tensor, seed: int) -> tuple[str, list[str], Tensor, Tensor]:
    """What the groups are, their names, and the group of each held-out image and of each sample."""
    judge = real.extractor
    if judge.mode_counts is not None and (judge.accuracy or 0) >= _TRUSTED:
        names = real.store.label_names or [str(index) for index in range(len(judge.mode_counts))]
        if len(names) == len(judge.mode_counts):
            return "classes", names, judge.modes(real.images), judge.modes(samples)
    from scipy.cluster.vq import kmeans2, vq

    distinct = len(real.features.unique(dim=0))
    count = min(max(2, min(_GROUPS, len(real.features) // _IMAGES_PER_GROUP)), distinct)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, own = kmeans2(real.features.numpy(), count, minit="++", rng=np.random.default_rng(seed))
    drawn = vq(features.numpy(), centres)[0]
    names = [f"cluster {index}" for index in range(count)]
    return "clusters", names, torch.from_numpy(own.astype(np.int64)), torch.from_numpy(drawn.astype(np.int64))


def _group(name: str, index: int, own: Tensor, drawn: Tensor) -> Group:
    members = (own == index).nonzero()[:, 0]
    share = wilson(float((drawn == index).double().mean()), len(drawn))
    return Group(str(name), len(members) / len(own), share, members[:_GALLERY].tolist())
