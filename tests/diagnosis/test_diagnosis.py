"""From the command line to the document, for every family."""

import json
from pathlib import Path

import pytest

from hfgen.cli import main
from hfgen.diagnosis import chain, run
from hfgen.diagnosis.budgets import BUDGETS, Budget
from hfgen.documents import DIAGNOSIS
from hfgen.errors import UserError

TINY = Budget(images=24, latent_steps=2, refit_steps=2, batch=12)
RECONSTRUCTED = {"mean"}
LATENT = {"best", "linear", "mean", "low_precision", "decoder", "free", "adversarial"}
NOISY = LATENT | {"inferred", "posterior_sample", "fitted_density", "prior_sample"}
CODED = LATENT | {"unquantised", "fitted_density", "prior_sample"}
STAGES = {
    "vae": NOISY,
    "vaegan": NOISY,
    "ali": NOISY,
    "vqvae": CODED,
    "vqgan": CODED,
    "gan": {"inversion", "prior_sample"},
    "pix2pix": RECONSTRUCTED,
}


@pytest.fixture(autouse=True)
def tiny_budget(monkeypatch):
    monkeypatch.setitem(BUDGETS, "small", TINY)


def test_every_family_is_diagnosed_from_the_command_line(
    trained: Path, family: str, glyph_folder: Path, tmp_path: Path, capsys
):
    out = tmp_path / "diagnosis"
    assert main(["diagnose", str(trained), f"--data={glyph_folder}", f"--out={out}"]) == 0
    document = DIAGNOSIS.read(out / "diagnosis.json")
    assert {link["stage"] for link in document["chain"]} == STAGES[family]
    causes = {name: entry["value"] for name, entry in document["causes"].items()}
    missing = causes.pop("missing")
    assert sum(causes.values()) == pytest.approx(missing)
    assert (out / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    assert document["advice"][0] in capsys.readouterr().out
    assert not list(out.glob(".partial"))


def test_an_interrupted_diagnosis_continues(glyph_folder: Path, vae: Path, tmp_path: Path, monkeypatch):
    whole = run.diagnose(vae, str(glyph_folder), out=tmp_path / "whole")
    with monkeypatch.context() as broken:
        broken.setattr(chain, "generate", _stop)
        with pytest.raises(KeyboardInterrupt):
            run.diagnose(vae, str(glyph_folder), out=tmp_path / "out")
    monkeypatch.setattr(chain, "refit", _stop)
    again = run.diagnose(vae, str(glyph_folder), out=tmp_path / "out")
    assert json.dumps(again) == json.dumps(whole)


def _stop(*_: object):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def vae(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_config

    from hfgen.training.train import train

    out = tmp_path_factory.mktemp("runs") / "vae"
    train(tiny_config("vae", glyph_folder), out)
    return out


def test_wrong_inputs_are_refused_in_one_line(vae: Path, glyph_folder: Path, tmp_path: Path, capsys):
    with pytest.raises(UserError, match="budget: 'huge' is none; choose small or full"):
        run.diagnose(vae, str(glyph_folder), out=tmp_path, budget="huge")  # type: ignore[arg-type]
    assert main(["diagnose", str(vae), f"--data={glyph_folder}", f"--out={tmp_path}", "--n=5"]) == 2
    assert "n: 5 images asked of the 100 in" in capsys.readouterr().err
    assert main(["diagnose", str(tmp_path / "no"), f"--data={glyph_folder}", f"--out={tmp_path}"]) == 2
    with pytest.raises(UserError, match=r"diagnosis: there is no .*; `hfgen diagnose` writes one"):
        DIAGNOSIS.read(tmp_path / "diagnosis.json")
    (tmp_path / "diagnosis.json").write_text("{}")
    with pytest.raises(UserError, match="is a required property"):
        DIAGNOSIS.read(tmp_path / "diagnosis.json")
