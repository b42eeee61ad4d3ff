"""The faults of the power table are those that it names."""

import argparse
from pathlib import Path

import pytest
import torch

from hfgen.data import draw
from hfgen.files import read_json


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from benchmarks import judge

    return judge


def test_the_faults_change_what_they_name_and_nothing_else(judge):
    images = draw("stacked", "test", 0, 40, 32).images
    labels = torch.arange(40) % 4
    sets = judge.degraded(images, labels, seed=0)
    assert len(sets) == 15 and all(
        made.dtype == torch.uint8 and made.shape[1:] == images.shape[1:] for made in sets.values()
    )
    changed = {name: (made != images).flatten(1).any(1) for name, made in sets.items() if len(made) == len(images)}
    partial = {"a tenth with blur, 2 px": 4, "a twentieth, 20 times": 38}
    assert all(int(rows.sum()) == partial.get(name, 40) for name, rows in changed.items())
    assert torch.equal(sets["half of the classes"], images[labels < 2])
    swapped = sets["neighbouring patches swapped"]
    assert torch.equal(swapped.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    blocks = [made.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4).sort(4).values for made in (swapped, images)]
    assert torch.equal(*blocks)
    assert torch.equal(sets["a twentieth, 20 times"].unique(dim=0), images[:2].unique(dim=0))


def test_an_elastic_image_is_moved_by_a_32nd_of_its_side(judge):
    side = 64
    ramp = torch.arange(side, dtype=torch.uint8).mul(4).expand(50, 1, side, side)
    moved = judge._elastic(ramp, torch.Generator().manual_seed(0))[:, :, 16:48, 16:48].double() / 4
    assert float((moved - ramp[:, :, 16:48, 16:48] / 4).std()) == pytest.approx(side / 32, rel=0.15)


def test_the_command_writes_what_each_judge_sees(
    judge, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    parser = argparse.ArgumentParser()
    judge.add_arguments(parser)
    options = ["--resolution=16", "--n=40", "--seeds=3", "--judges", "pixels", "embedded-v2"]
    threads = torch.get_num_threads()
    try:
        assert judge.run(parser.parse_args([f"--data={glyph_folder}", f"--out={tmp_path}", *options])) == 0
    finally:
        torch.set_num_threads(threads)
    said, written = capsys.readouterr().out, read_json(tmp_path / "judge.json")
    assert written["n"] == 40 and written["judges"].keys() == {"pixels", "embedded-v2"}
    seen = written["judges"]["pixels"]
    first, *others = written["seeds"]["pixels"]
    assert first == seen["other real images"] and len({turn["z"] for turn in others} | {first["z"]}) == 3
    assert "| pixels, 3 seeds |" in said
    assert abs(seen["other real images"]["z"]) < 3 and seen["upscaled from half"]["coverage"] < 0.5
    assert all(f"\n| {row} | " in said for row in seen)
    assert "pixels: " in said and "at n = 40 the judge detects " in said
