"""Whole sets stay uint8: floats are made of a few images at a time, whatever the number of images."""

import pytest
import torch
from sizes import LargestTensor

from hfgen.comparison import galleries
from hfgen.comparison.differences import Features, differences, perception_distortion
from hfgen.data.glyphs import draw
from hfgen.evaluation.evaluate import Evaluation
from hfgen.metrics import Collector, pixels, spectrum

N, SIDE = 160, 32
RECORD = {"protocol": {"seed": 0, "neighbours": 5, "window": "none"}}


@pytest.fixture
def models() -> dict[str, Evaluation]:
    originals = draw("glyphs", "test", 0, N, SIDE).images // 2 + 60
    return {
        name: Evaluation(RECORD, originals, None, originals + step, originals.roll(step, 0), [])
        for name, step in (("first", 3), ("second", 7))
    }


@pytest.mark.parametrize("work", ["differences", "plane", "galleries"])
def test_no_number_of_a_comparison_takes_a_set_in_floats(
    work: str, models: dict[str, Evaluation], monkeypatch: pytest.MonkeyPatch
):
    for module, name in ((spectrum, "_PIXELS"), (pixels, "_NUMBERS"), (galleries, "_NUMBERS")):
        monkeypatch.setattr(module, name, 2**14)
    draws = torch.Generator().manual_seed(0)
    seen = {name: torch.randn(N, 4, generator=draws, dtype=torch.float64) for name in models}
    features = Features(torch.randn(N, 4, generator=draws, dtype=torch.float64), seen, seen)
    found = Collector()
    with LargestTensor() as largest:
        if work == "differences":
            assert all(map(len, differences(models, features, found).values()))
        elif work == "plane":
            assert perception_distortion(models, features, found).keys() == models.keys()
        else:
            assert len(galleries.galleries(models, None)) == 3
    # A set would take 4 N R^2 bytes in float32, and 8 in float64.
    assert not found.notes and largest.bytes < 3 * N * SIDE**2
