"""Which kinds of images samples leave out: clusters of known points."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hfgen.diagnosis.ranking import rank
from hfgen.diagnosis.variety import variety
from hfgen.metrics import Collector, Estimate
from hfgen.metrics.neighbours import covered, prdc


def blobs(count: int, apart: float, seed: int) -> Tensor:
    """Half of the points about 0, half about a point that lies `apart` from it."""
    points = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)).double()
    points[: count // 2, 0] += apart
    return points


def held_out(features: Tensor) -> Any:
    """Real images of these features, with a judge that takes samples for their own features."""
    extractor = SimpleNamespace(features=lambda samples: samples, mode_counts=None, accuracy=None)
    distances = {"own_distances": torch.ones(10), "training_distances": lambda features: torch.ones(10)}
    return SimpleNamespace(features=features, extractor=extractor, images=features, **distances)


def test_a_cluster_without_samples_is_missing_and_one_across_whose_border_all_samples_moved_is_not():
    far, near = held_out(blobs(60, 12, 0)), held_out(blobs(60, 2, 0))
    lost = variety(far, blobs(60, 0, 1), 0, Collector())
    assert lost.kind == "clusters" and lost.share == pytest.approx(0.5)
    moved = blobs(60, 2, 1)
    moved[:, 0] += 1.5
    assert prdc(near.features, moved).coverage > 0.6 and variety(near, moved, 0, Collector()).missing == []


def test_what_is_covered_is_what_coverage_counts():
    real, fake = blobs(80, 5, 0), blobs(50, 0, 1)
    near = covered(real, fake)
    assert float(near.double().mean()) == pytest.approx(prdc(real, fake).coverage)
    assert float(near[:40].double().mean()) < 0.1 < 0.8 < float(near[40:].double().mean())


def test_one_class_of_ten_that_is_left_out_of_sharp_samples_is_named():
    missing = Estimate(0.1, 0.05, 0.15, 100).as_dict()
    found = rank({"causes": {"missing": missing}, "variety": {"missing_share": 0.11}, "chain": []})
    assert [(each["cause"], each["of"]) for each in found] == [("modes", "real images")]
