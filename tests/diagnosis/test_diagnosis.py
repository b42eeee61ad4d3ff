"""From the command line to the document, for every family."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import without_pictures

from hfgen.cli import main
from hfgen.data import draw
from hfgen.diagnosis import chain
from hfgen.diagnosis.budgets import BUDGETS, Budget
from hfgen.diagnosis.diagnose import diagnose
from hfgen.diagnosis.refits import CELLS
from hfgen.documents import DIAGNOSIS
from hfgen.errors import SettingsError, UserError
from hfgen.families.gan import GAN
from hfgen.pipelines import GANPipeline, load
from hfgen.pipelines.autoencoder import AutoencoderPipeline

TINY = Budget(images=24, latent_steps=2, refit_steps=2, batch=12)
RECONSTRUCTED = {"mean"}
LATENT = {"best", "linear", "mean", "low_precision", "adversarial", *CELLS}
NOISY = LATENT | {"inferred", "posterior_sample", "fitted_density", "prior_sample"}
CODED = LATENT | {"unquantised", "fitted_density", "prior_sample", "prior_refit"}
STAGES = {
    "vae": NOISY,
    "vaegan": NOISY,
    "ali": NOISY,
    "vqvae": CODED,
    "vqgan": CODED,
    "gan": {"inversion", "prior_sample", "generator_refit"},
    "flow": {"mean", "prior_sample"},
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
    assert bool(document["shares"]) == (STAGES[family] >= LATENT)
    if shares := document["shares"].get("squared_error"):
        assert sum(share["value"] for share in shares.values()) == pytest.approx(1)
    assert (out / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    assert document["advice"][0] in capsys.readouterr().out
    assert not list(out.glob(".partial"))


def test_an_interrupted_diagnosis_continues(glyph_folder: Path, vae: Path, tmp_path: Path, monkeypatch):
    whole = diagnose(vae, str(glyph_folder), out=tmp_path / "whole")
    with monkeypatch.context() as broken:
        broken.setattr(chain, "refit", _stop)
        with pytest.raises(KeyboardInterrupt):
            diagnose(vae, str(glyph_folder), out=tmp_path / "out")
    monkeypatch.setattr(chain, "generate", _stop)
    again = diagnose(vae, str(glyph_folder), out=tmp_path / "out")
    assert json.dumps(again) == json.dumps(whole)


def _stop(*_: object):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def vae(trained_of: Callable[[str], Path]) -> Path:
    return trained_of("vae")


def test_wrong_inputs_are_refused_in_one_line(vae: Path, glyph_folder: Path, tmp_path: Path, capsys):
    with pytest.raises(UserError, match="budget: 'huge' is unknown; choose small or full"):
        diagnose(vae, str(glyph_folder), out=tmp_path, budget="huge")  # type: ignore[arg-type]
    assert main(["diagnose", str(vae), f"--data={glyph_folder}", f"--out={tmp_path}", "--n=5"]) == 2
    assert "n: 5 images asked of the 100 in" in capsys.readouterr().err
    assert main(["diagnose", str(tmp_path / "no"), f"--data={glyph_folder}", f"--out={tmp_path}"]) == 2
    with pytest.raises(UserError, match=r"diagnosis: there is no .*; `hfgen diagnose` writes one"):
        DIAGNOSIS.read(tmp_path / "diagnosis.json")
    (tmp_path / "diagnosis.json").write_text("{}")
    with pytest.raises(UserError, match="is a required property"):
        DIAGNOSIS.read(tmp_path / "diagnosis.json")
    (tmp_path / "diagnosis.json").write_text('{"schema": 2}')
    with pytest.raises(UserError, match=r"schema: 3 was expected .*; diagnose again with this version of hfgen"):
        DIAGNOSIS.read(tmp_path / "diagnosis.json")


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_nan_is_the_finding_of_a_diagnosis(
    part: str, vae: Path, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import hfgen

    pipeline = hfgen.load(vae)
    getattr(pipeline.vae, part).conv_out.weight.data.fill_(math.nan)
    pipeline.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    assert main(["diagnose", str(tmp_path / "model"), f"--data={glyph_folder}", f"--out={out}"]) == 0
    document = DIAGNOSIS.read(out / "diagnosis.json")
    found = document["non_finite"][0]
    assert found["part"] == f"vae.{part}.conv_out" and found["image"] == "held-out image 0"
    assert document["ranking"] == [{"cause": "non_finite", "score": 1.0, "of": "images", "confidence": 1.0}]
    assert f"hold NaN or infinity, first held-out image 0: vae.{part}.conv_out gives it" in document["advice"][0]
    assert document["advice"][0] in capsys.readouterr().out
    # An encoder's fault leaves what the decoder draws to be looked at.
    assert [link["stage"] for link in document["chain"]] == (["prior_sample"] if part == "encoder" else [])
    assert not document["causes"] and not (out / "waterfall.png").exists()


def test_an_intervention_that_fails_is_left_out_and_noted(
    vae: Path, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def diverged(network, images, name, budget, seed):
        for student in refit(network, images, name, budget, seed):
            if name == "free":
                student.network.decoder.conv_out.weight.data.fill_(math.nan)
            yield student

    refit = chain.refit
    monkeypatch.setattr(chain, "refit", diverged)
    document = diagnose(vae, str(glyph_folder), out=tmp_path)
    assert {link["stage"] for link in document["chain"]} == NOISY - {"free"}
    assert [note for note in document["notes"] if not note.startswith("baseline: ")] == [
        "free: left out (the model gives NaN or infinity)"
    ]
    assert document["non_finite"] == [] and "missing" in document["causes"]
    # Without one of its refits the factorial says nothing.
    assert document["shares"] == {} and "noise" not in document["causes"]


def test_images_without_detail_are_refused_before_the_work(vae: Path, tmp_path: Path):
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
        for index in range(24):
            Image.new("L", (16, 16), index).save(tmp_path / "flat" / split / f"{index}.png")
    with pytest.raises(UserError, match=r"data: 0 of the 24 images have power above .25 cycles/pixel"):
        diagnose(vae, str(tmp_path / "flat"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_model_of_another_size_is_refused_with_both_before_the_work(vae: Path, tmp_path: Path):
    GANPipeline(GAN(width=16, max_width=16).build(32, 1)["gan"]).save_pretrained(tmp_path / "gan")
    AutoencoderPipeline(load(vae).vae).save_pretrained(tmp_path / "free")
    words = "against: its images have 32 pixels, and this model's 16; "
    for model, remedy in ((vae, "compare models of one size"), (tmp_path / "free", "give --resolution 32")):
        with pytest.raises(SettingsError, match=words + remedy):
            diagnose(str(model), "glyphs", out=tmp_path / "out", against=str(tmp_path / "gan"))
    assert not (tmp_path / "out").exists()


def test_without_refits_two_checkpoints_are_held_against_each_other(
    vae: Path, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import hfgen

    pipeline = hfgen.load(vae)
    pipeline.vae.decoder.conv_out.weight.data.zero_()
    # Of another size by its config, which takes any.
    pipeline.vae.register_to_config(sample_size=64)
    pipeline.vae.save_pretrained(tmp_path / "flat")
    out, words = tmp_path / "out", ["--no-refits", "--json", "--n=24", f"--against={tmp_path / 'flat'}"]
    assert main(["diagnose", str(vae), f"--data={glyph_folder}", f"--out={out}", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == DIAGNOSIS.read(out / "diagnosis.json")
    assert {link["stage"] for link in document["chain"]} == RECONSTRUCTED | {
        "prior_sample",
        "low_precision",
        "posterior_sample",
    }
    assert set(document["causes"]) == {"data", "unexplained", "prior", "missing"}
    assert document["against"]["model"].endswith("flat")
    assert any("Only the other has this" in text for text in document["against"]["sentences"])
    other = DIAGNOSIS.read(out / "against" / "diagnosis.json")
    assert other["data"]["resolution"] == document["data"]["resolution"] == 16
    assert other["verdict"]["cause"] == "constant" and "no number depends on the image" in other["verdict"]["sentence"]
    page = (out / "report.html").read_text()
    assert "Only the other has this" in page and "http" not in without_pictures(page).replace("http-equiv", "")


def test_the_page_has_no_serious_violation(vae: Path, glyph_folder: Path, tmp_path: Path):
    from browser import page_violations

    diagnose(vae, str(glyph_folder), out=tmp_path / "out", n=24, refits=False)
    assert page_violations(tmp_path / "out" / "report.html") == []


def test_advice_that_is_followed_twice_names_another_folder(vae: Path, tmp_path: Path, monkeypatch):
    from hfgen.diagnosis.commands import command

    monkeypatch.chdir(tmp_path)
    assert command("noise", str(vae), "glyphs", "vae").endswith("--out runs/vae-glyphs-noise")
    (tmp_path / "runs" / "vae-glyphs-noise").mkdir(parents=True)
    assert command("noise", str(vae), "glyphs", "vae").endswith("--out runs/vae-glyphs-noise-2")


@pytest.mark.parametrize(
    "place", [".", "pretrained", "pretrained/vae", "checkpoints/00000096", "checkpoints/00000096/pretrained/vae"]
)
def test_the_run_of_a_model_is_found_from_wherever_its_weights_lie(place: str, tmp_path: Path):
    from hfgen.diagnosis.commands import own_settings, run_folder

    (tmp_path / "run" / place).mkdir(parents=True)
    (tmp_path / "run.json").write_text("{}")
    assert run_folder(str(tmp_path / "run" / place)) is None
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": {"resolution": 16, "model": {"width": 4}}}))
    assert own_settings(str(tmp_path / "run" / place)) == {"resolution": 16, "model.width": 4}


def test_what_to_change_is_a_command_with_the_runs_own_settings(vae: Path, tmp_path: Path):
    from hfgen.configs import load_config
    from hfgen.diagnosis.commands import command

    said = command("noise", str(vae), "glyphs", "vae")
    assert said is not None and said.startswith("hfgen train vae-glyphs --data glyphs ")
    words = said.split()[3:]
    settings = [f"{name}={value}" for name, value in zip(words[::2], words[1::2], strict=True) if name != "--out"]
    config = load_config("vae-glyphs", settings).as_dict()
    own = json.loads((vae / "run.json").read_text())["config"]
    assert config["model"] == {**own["model"], "kl_weight": pytest.approx(0.1 * own["model"]["kl_weight"])}
    assert config["resolution"] == own["resolution"] == 16
    longer = command("under_trained", str(vae), "glyphs", "vae")
    assert longer is not None and f"--start_from {vae}" in longer and f"--max_images {4 * own['max_images']}" in longer
    assert command("shifted", str(vae), "glyphs", "vae") is None
    assert command("noise", str(tmp_path), "glyphs", "gan") is None
    # Without the run's folder nothing says how its networks are built; one of diffusers says it itself.
    assert command("under_trained", str(vae / "pretrained" / "vae"), "glyphs", "vae") is not None
    assert command("under_trained", str(tmp_path), "glyphs", "vae") is None
    tuned = command("under_trained", "org/vae", "DATA", "autoencoder", {"resolution": 64, "channels": 1})
    assert tuned is not None and "vaegan-finetune" in tuned and "--resolution 64 --channels 1" in tuned


def test_a_fixed_pattern_is_shown_by_the_mean_difference():
    from hfgen.diagnosis.verdict_page import _strips

    images = draw("glyphs", "test", 0, 24, 16).images // 2
    made = images.clone()
    made[..., 8:] += 40
    pairs, (common,) = _strips(images, {"mean": made}, alike=True)[1]
    assert len(pairs) == 3 and common.images.shape == (1, 1, 16, 16)
    assert common.images[..., :8].unique().tolist() == [128] and (common.images[..., 8:] > 200).all()
    assert len(_strips(images, {"mean": made}, alike=False)[1]) == 1
