"""What is known of a model goes along where it is of this model's weights, and with models alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exact import SENTENCE, write_posterior
from hub.accounts import diagnosed
from safetensors.torch import load_file, save_file
from tiny import tiny_config

import hfgen
from hfgen.errors import UserError
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.publishing import dry_run
from hfgen.publishing.cards import write_card
from hfgen.publishing.contents import Evidence, collect
from hfgen.publishing.safety import check


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    """An untrained one, as a run leaves it."""
    run = tmp_path / "vae"
    model = tiny_config("vae", run).model
    model.pipeline(model.build(8, 1, 2)).save_pretrained(run / "pretrained")
    return run


def test_publishing_begins_without_torch():
    code = "import hfgen.publishing.publisher, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_models_answer_and_a_huge_picture_of_one_are_refused(vae: Path, tmp_path: Path):
    answers = write_posterior(tmp_path / "answers", {"vae": "0" * 64}, resolution=8)
    with pytest.raises(UserError, match=r"none has the weights of .* at 8 px; run `hfgen study posterior"):
        collect(vae, "org/model", tmp_path / "out", Evidence(posterior=answers))
    shutil.rmtree(answers)
    write_posterior(answers, {"vae": digest_of_folder(vae / "pretrained")}, resolution=8, converged=3)
    found = collect(vae, "org/model", tmp_path / "out", Evidence(posterior=answers / "posterior.json"))
    check(found, vae, None)
    about: dict[str, Any] = {"family": "vae", "parameters": 1, "resolution": 8, "channels": 1, "components": {}}
    about |= {"samples": False, "reconstructs": True, "bare": True, "class": "AutoencoderKL"}
    card = write_card(found, "org/model", about, None, None)
    assert f"{SENTENCE} For 1 of the 4 images the exact answer didn't converge; they stay in.\n" in card
    (sheet,) = (answers / "figures").iterdir()
    with sheet.open("r+b") as picture:
        picture.truncate(6_000_000)
    with pytest.raises(UserError, match=r"posterior\.png: .*vae-.*\.png has 6 MB, too many for a sheet"):
        check(found, vae, None)
    sheet.unlink()
    assert "posterior.png" not in collect(vae, "org/model", tmp_path / "o", Evidence(posterior=answers)).files


def test_a_network_that_hfgen_did_not_train_is_not_called_so_and_has_no_assumed_licence(vae: Path, tmp_path: Path):
    found = collect(vae, "org/model", tmp_path / "out", Evidence())
    about: dict[str, Any] = {"family": "vae", "parameters": 1, "resolution": 8, "channels": 1}
    about |= {"components": {"vae": "AutoencoderKL"}, "samples": True, "reconstructs": True, "class": "AutoencoderKL"}
    assert found.run == {}
    for bare, run, trained in ((True, {}, False), (True, {"config": {}}, True), (False, {}, True)):
        found.run = run
        card = write_card(found, "org/model", {**about, "bare": bare}, None, None)
        assert ("8 px, grey. Trained with hfgen.\n\n## Load it\n" in card) is trained
        assert ("8 px, grey.\n\n## Load it\n" in card) is not trained
        assert f"note = {{{'Trained' if trained else 'Published'} with hfgen}}" in card
        assert f"license: {'mit' if trained else 'unknown'}\n" in card
    assert "license: apache-2.0\n" in write_card(found, "org/model", {**about, "bare": True}, "apache-2.0", None)
    config = {**tiny_config("vae", tmp_path).as_dict(), "start_from": "org/theirs"}
    found.run = {"config": config}
    card = write_card(found, "org/model", {**about, "bare": True}, None, None)
    assert "license: unknown\n" in card and "Trained with hfgen." in card
    found.run = {}
    card = write_card(found, "org/model", {**about, "bare": False, "family": None, "class": "Pipeline"}, None, None)
    assert "license: unknown\n" in card and "Trained with hfgen" not in card


@pytest.mark.parametrize("field", Evidence._fields)
def test_what_only_a_models_card_tells_is_refused_for_others(field: str, evaluation: Path, tmp_path: Path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "app.py").touch()
    for folder, kind in ((evaluation, "a dataset"), (tmp_path / "space", "a Space")):
        with pytest.raises(UserError, match=f"{field}: a model's card tells it, and .* is {kind}; leave --{field} out"):
            collect(folder, "org/it", tmp_path / "out", Evidence(**{field: tmp_path}))


def test_measurements_of_other_weights_are_not_published(
    trained_of: Callable[[str], Path], glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A run that went on after it was measured: as many parameters, other numbers."""
    run = Path(shutil.copytree(trained_of("vae"), tmp_path / "vae"))
    settings: dict[str, Any] = {"out": run, "n": 40, "extractor": "pixels"}
    measured = hfgen.evaluate(run, str(glyph_folder), **settings).record["model"]
    assert measured["weights"] == digest_of_folder(run / "pretrained")
    loaded = hfgen.evaluate(hfgen.load(run), str(glyph_folder), **{**settings, "out": tmp_path / "loaded"})
    assert loaded.record["model"]["weights"] == measured["weights"]
    identity = {"reconstruct": lambda images: images}
    functions = hfgen.evaluate(identity, str(glyph_folder), n=40, extractor="pixels", resolution=16)
    assert "weights" not in functions.record["model"]
    diagnosis = diagnosed(measured)
    diagnosis["model"]["weights"] = measured["weights"]
    (run / "diagnosis.json").write_text(json.dumps(diagnosis))
    assert {"record.json", "diagnosis.json"} <= dry_run(run, "org/model").sizes.keys()
    (path,) = run.glob("pretrained/vae/*.safetensors")
    weights = load_file(path)
    save_file({name: value * 1.01 for name, value in weights.items()}, path)
    for name, verb in (("record", "evaluate"), ("diagnosis", "diagnose")):
        with pytest.raises(
            UserError, match=rf"{name}: .* is of other weights than .* has now; {verb} this model again"
        ):
            dry_run(run, "org/model", **{name: run})
    caplog.clear()
    # A run that ends by publishing isn't lost by what lies beside it.
    found = dry_run(run, "org/model").sizes
    assert not {"record.json", "diagnosis.json"} & found.keys() and "run.json" in found
    assert [text.partition(":")[0] for text in caplog.messages if "and is left out" in text] == ["record", "diagnosis"]
