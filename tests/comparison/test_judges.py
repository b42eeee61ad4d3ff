"""A second judge beside the first: what it says, and where the two order models otherwise."""

from __future__ import annotations

import dataclasses
import json
from html import unescape
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hfgen import metrics
from hfgen.comparison.compare import compare
from hfgen.data.glyphs import draw
from hfgen.evaluation.evaluate import Evaluation


class Coarse(metrics.Extractor):
    """A judge that sees how bright each quarter of a quarter is, hence no noise."""

    id, sha256, accuracy, preprocessing, mode_counts = "coarse", "0", None, {}, None

    def features(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.double() / 32, 4).flatten(1)

    def batch_features(self, images: Tensor) -> Tensor:
        return self.features(images).float()

    def to(self, device: torch.device) -> metrics.Extractor:
        return self

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_two_judges_that_disagree_are_named(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    """Noise, which the first can't see, against letters at another place, which the second minds less."""
    one = evaluations["gan"]
    # Neither black nor white, or noise would change the brightness.
    originals, others = (images // 2 + 60 for images in (one.originals, one.others))
    first = dataclasses.replace(one, originals=originals, others=others, extractor=Coarse())
    real = draw("glyphs", "train", 500, 60, 16).images // 2 + 60
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0)) * 30
    parts = {
        name: dataclasses.replace(first, samples=images.round().clamp(0, 255).byte())
        for name, images in {"noisy": real + noise, "moved": real.roll((1, 1), (2, 3)).float()}.items()
    }
    comparison = compare(parts, tmp_path)
    [pair] = [pair for pair in comparison["disagreements"] if pair["metric"] == "kid"]
    assert (pair["first"], pair["second"]) == ("noisy", "moved")
    # noisy - moved: of the first judge below 0, of the second above.
    assert pair["by_first"]["high"] < 0 < pair["by_second"]["low"]
    second = comparison["second_judge"]
    assert second["extractor"]["id"].startswith("hfgen-pixels-v1/") and second["power"]["noise"] <= 15
    for metric in ("kid_pixels", "coverage_pixels"):
        [gap] = comparison["differences"][metric]
        values = [second["models"][name][metric]["value"] for name in parts]
        assert gap["difference"]["value"] == pytest.approx(values[0] - values[1], abs=1e-9)
    line = "The two judges disagree: by KID the samples of noisy lie closer to real images in the first's features"
    assert sum(sentence.startswith(line) for sentence in comparison["reading"]) == 1
    text = " ".join(unescape((tmp_path / "report.html").read_text(encoding="utf-8")).split())
    assert line.replace("disagree", "disagree</strong>").replace("The", "<strong>The", 1) in text
    assert "KID, second judge" in text and second["extractor"]["sha256"] in text


def test_judges_that_order_alike_agree_in_one_line(written: Path) -> None:
    comparison = json.loads((written / "comparison.json").read_text())
    lines = [sentence for sentence in comparison["reading"] if sentence.startswith("The two judges")]
    assert len(lines) == max(1, len(comparison["disagreements"]))
    assert comparison["second_judge"]["models"].keys() == {"vae", "other", "gan"}


def test_a_first_judge_of_pixels_has_no_second(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    one = evaluations["gan"]
    judge = metrics.pixel_judge(one.others)
    protocol = {**one.record["protocol"], "extractor": judge.facts()}
    comparison = compare(
        {"gan": dataclasses.replace(one, extractor=judge, record={**one.record, "protocol": protocol})}, tmp_path
    )
    assert comparison["second_judge"] is None
    assert any(note.startswith("second judge: none, since the first") for note in comparison["notes"])
    assert "The two judges" not in (tmp_path / "report.html").read_text()
