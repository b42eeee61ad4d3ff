"""Where a comparison is written: nobody's place, and without what an earlier one left."""

from pathlib import Path
from typing import Any

import pytest
from tiny import autoencoder

import hfgen
from hfgen.comparison.compare import _FIGURES
from hfgen.errors import SettingsError, UserError


def test_a_comparison_takes_nobodys_place_and_leaves_nothing_of_an_earlier_one(
    glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError("the disk is full")

    model, options = autoencoder(), {"n": 40, "resolution": 16, "extractor": "pixels"}
    out = tmp_path / "ab"
    hfgen.compare({"one": model, "two": autoencoder()}, str(glyph_folder), out, **options)
    one = out / "one"
    before = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    with pytest.raises(SettingsError, match=r"out: .*one holds an evaluation \(record\.json\); choose another --out"):
        hfgen.compare([one, out / "two"], out=one)
    assert before == {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    with pytest.raises(SettingsError, match=r"out: .*ab holds a comparison, whose dataset/ this would replace"):
        hfgen.evaluate(model, str(glyph_folder), out=out, **options)
    # What isn't known by its name would stay.
    assert {path.stem for path in (out / "figures").iterdir()} <= set(_FIGURES)
    (out / "figures" / "mine.png").write_bytes(b"mine")
    assert (out / "figures" / "worst_reconstructions.png").is_file()
    assert (out / "figures" / "disagreements.png").is_file() and (out / "figures" / "costs.svg").is_file()
    found = hfgen.compare([one], out=out)
    left = {path.name for path in (out / "figures").iterdir()}
    assert "mine.png" in left and not left & {"disagreements.png", "costs.svg", "costs.png"}
    for settings in ({"n": 5}, {"seed": 1}, {"resolution": 16}, {"variant": "fp16"}, {"dtype": "bf16"}):
        (name,) = settings
        with pytest.raises(SettingsError, match=f"{name}: without data nothing is measured, .*; leave {name} out"):
            hfgen.compare([one, out / "two"], out=tmp_path / "cd", **settings)
    model.save_pretrained(tmp_path / "saved")
    for settings, words in [
        ({"extractor": "embedded"}, "extractor: hfgen-pixels-v1/.* of one, but embedded asked; .*--extractor"),
        ({"dtype": "bf16"}, "protocol.dtype: fp32 of one, but bf16 asked; evaluate both with one --dtype"),
    ]:
        with pytest.raises(SettingsError, match=words):
            hfgen.compare([one, tmp_path / "saved"], str(glyph_folder), tmp_path / "cd", **{**options, **settings})
    assert not (tmp_path / "cd").exists() and list(found.record["models"]) == ["one"]
    assert "costs: not measured, these are finished evaluations" in found.record["notes"]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr("hfgen.comparison.compare.write_dataset", full)
        hfgen.compare([one], out=out)
    assert not any((out / name).exists() for name in ("comparison.json", "report.html"))
    with pytest.raises(UserError, match=r"dataset is an evaluation's dataset; give the folder that holds it"):
        hfgen.compare([one / "dataset"], out=tmp_path / "cd")
    (one / "dataset" / "extractor").rename(tmp_path / "extractor")
    with pytest.raises(UserError, match=r"dataset: extractor/ is missing; evaluate the model again"):
        hfgen.compare([one], out=tmp_path / "cd")
    (one / "dataset").rename(tmp_path / "dataset")
    with pytest.raises(UserError, match=r"one: dataset/ is missing beside record\.json; evaluate the model again"):
        hfgen.compare([one], out=tmp_path / "cd")
