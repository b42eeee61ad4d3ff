"""Whole sets stay uint8: floats are made of a few images at a time, whatever the number of images."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from sizes import LargestTensor

from hfgen.comparison import galleries, measuring
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


def test_the_models_share_the_held_out_images(models: dict[str, Evaluation]):
    first = {"first": models["first"]}
    own = dataclasses.replace(models["second"], originals=models["second"].originals.clone())
    assert measuring._sharing(own, first).originals is models["first"].originals
    own.originals[-1, 0, 0, 0] += 1
    assert measuring._sharing(own, first).originals is own.originals


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is read from /proc")
def test_the_heap_does_not_grow_with_the_images():
    """In a process of its own: what other tests left free would hide it."""
    program = """
import re, sys, torch
from pathlib import Path
from hfgen import metrics
images = torch.randint(0, 256, (int(sys.argv[1]), 3, 256, 256), dtype=torch.uint8)
held = lambda name: int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000
before = held("VmRSS")
metrics.chroma_measures(images, images // 2 + 60, "hann")
print(held("VmHWM") - before)
"""
    few, many = (
        float(subprocess.run([sys.executable, "-c", program, n], capture_output=True, text=True, check=True).stdout)
        for n in ("48", "144")
    )
    # The reconstructions are 19 MB more; without giving back what is free, it is 3.7 MB an image.
    assert many - few < 150, f"{few:.0f} MB of 48 images, {many:.0f} MB of 144"
