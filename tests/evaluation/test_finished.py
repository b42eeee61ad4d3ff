"""Finished evaluations are compared as they stand: nothing is measured or drawn again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from hfgen.cli import main
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import evaluate
from hfgen.evaluation.finished import is_finished, read_evaluation
from hfgen.families import FAMILIES

N = 40


@pytest.fixture(scope="module")
def folders(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`vae` and `gan`: models of random weights; `of_vae` and `of_gan`: their evaluations."""
    folder = tmp_path_factory.mktemp("finished")
    for seed, name in enumerate(("vae", "gan")):
        settings = FAMILIES[name](width=16, max_width=16, latent_channels=4)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            settings.pipeline(settings.build(16, 1)).save_pretrained(folder / name)
        evaluate(folder / name, str(glyph_folder), n=N, out=folder / f"of_{name}")
    return folder


def test_an_evaluation_is_read_back_whole(folders: Path, glyph_folder: Path):
    again, first = read_evaluation(folders / "of_vae"), evaluate(folders / "vae", str(glyph_folder), n=N)
    assert again.record == first.record and again.seeds == first.seeds
    assert again.labels is not None and first.labels is not None
    for part in ("originals", "reconstructions", "samples", "labels"):
        assert torch.equal(getattr(again, part), getattr(first, part)), part
    assert read_evaluation(folders / "of_gan").reconstructions is None


def test_compare_reads_evaluations_and_measures_models_beside_them(
    folders: Path,
    glyph_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    import hfgen.comparison.measuring

    models = [folders / "of_vae", folders / "gan"]
    options = [f"--data={glyph_folder}", f"--out={tmp_path / 'mixed'}"]
    for wrong, words in (("--n=50", "data.n: 40 of of_vae, but 50 asked"), ("--seed=1", "protocol.seed: 0 of of_vae")):
        assert main(["compare", *map(str, models), *options, wrong]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "mixed").exists()
    # As many as in the evaluation that is read.
    assert main(["compare", *map(str, models), *options]) == 0
    mixed = json.loads((tmp_path / "mixed" / "comparison.json").read_text())
    assert mixed["costs"].keys() == {"gan"} and mixed["costs"]["gan"]["sampling"]["peak_bytes"] > 0
    page = (tmp_path / "mixed" / "report.html").read_text(encoding="utf-8")
    assert "What an image costs" in page and (tmp_path / "mixed" / "figures" / "costs.svg").is_file()

    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(hfgen.comparison.measuring, "evaluate", measured)
    finished = [str(folders / "of_vae"), str(folders / "of_gan")]
    assert main(["compare", *finished, f"--out={tmp_path / 'read'}"]) == 0
    read = json.loads((tmp_path / "read" / "comparison.json").read_text())
    assert read["costs"] == {}
    assert list(read["models"]) == ["of_vae", "of_gan"]
    assert read["models"]["of_gan"] == mixed["models"]["gan"]


def test_a_model_without_data_is_refused(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", str(folders / "of_vae"), str(folders / "gan"), f"--out={tmp_path / 'out'}"]) == 2
    assert "data: none given, and " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_that_nothing_would_be_measured_on_are_refused(
    folders: Path, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    finished = [str(folders / "of_vae"), str(folders / "of_gan")]
    assert main(["compare", *finished, f"--data={glyph_folder}", f"--out={tmp_path / 'out'}"]) == 2
    assert "data: all of these are finished evaluations" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_runs_folder_that_holds_both_is_measured_where_data_are_given(folders: Path, tmp_path: Path):
    both = tmp_path / "both"
    shutil.copytree(folders / "of_vae", both)
    shutil.copytree(folders / "vae", both / "pretrained")
    assert not is_finished(both, given_data=True)
    assert is_finished(both, given_data=False)
    assert is_finished(folders / "of_vae", given_data=True)
    assert not is_finished(folders / "vae", given_data=True)


def test_an_evaluation_of_weights_that_the_model_had_before_is_refused(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    both = tmp_path / "both"
    shutil.copytree(folders / "of_vae", both)
    shutil.copytree(folders / "vae", both / "pretrained")
    assert main(["compare", str(both), str(folders / "of_gan"), f"--out={tmp_path / 'same'}"]) == 0
    shutil.rmtree(both / "pretrained")
    shutil.copytree(folders / "gan", both / "pretrained")
    capsys.readouterr()
    assert main(["compare", str(both), str(folders / "of_gan"), f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert f"record: that of {both} is of other weights than the model has now; give --data" in said
    assert not (tmp_path / "out").exists()


def test_evaluations_of_other_images_are_refused(folders: Path, glyph_folder: Path, tmp_path: Path):
    evaluate(folders / "gan", str(glyph_folder), n=N, seed=1, out=tmp_path / "other")
    assert main(["compare", str(folders / "of_vae"), str(tmp_path / "other"), f"--out={tmp_path / 'out'}"]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [("images", "evaluate the model again"), ("record", "evaluate again with this version"), ("table", "get it again")],
)
def test_a_damaged_evaluation_is_refused_in_one_line(folders: Path, tmp_path: Path, damage: str, remedy: str):
    copy = tmp_path / "copy"
    shutil.copytree(folders / "of_gan", copy)
    [table] = (copy / "dataset").glob("*.parquet")
    if damage == "images":
        record = json.loads((copy / "record.json").read_text())
        record["data"]["n"] = N + 1
        (copy / "record.json").write_text(json.dumps(record))
    elif damage == "record":
        (copy / "record.json").write_text("{}")
    else:
        table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(UserError) as caught:
        read_evaluation(copy)
    assert "\n" not in str(caught.value) and remedy in str(caught.value)
