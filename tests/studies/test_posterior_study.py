"""The exact answer of glyphs: the renderer's inverse, powers by products, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import write_posterior
from PIL import Image

from hfgen.cli import main
from hfgen.data import draw, glyph_unknowns, render
from hfgen.pipelines.loading import load
from hfgen.pipelines.weight_digest import digest_of_networks
from hfgen.studies.posterior import study_posterior as study
from hfgen.studies.posterior.exact_answer import Answer, Size
from hfgen.studies.posterior.shares import measures, summary

TINY = study.Budget(2, Size(points=2, particles=4, sweeps=2, attempts=2), images=32)


def test_the_unknowns_render_the_glyphs_and_change_them_smoothly():
    unknowns = glyph_unknowns("test", 3, 5)
    assert unknowns.shape == (5, 6)
    assert torch.equal(render(unknowns, 32), draw("glyphs", "test", 3, 5, 32).images)
    moved = unknowns + np.array([0, 0, 0, 1e-3, 0, 0])
    difference = (render(moved % 1, 32).int() - render(unknowns, 32).int()).abs().float().mean()
    assert 0 < float(difference) < 2


def made_answers(count: int, noise: float) -> list[Answer]:
    """x = E + residual, both white, of variances .03 and .01; two estimates of E, and a decoder of E / 2."""
    draws = torch.Generator().manual_seed(0)

    def normal(deviation: float) -> torch.Tensor:
        return deviation * torch.randn(16, 16, generator=draws, dtype=torch.float64)

    answers = []
    for index in range(count):
        mean = 0.5 + normal(0.03**0.5)
        original = (255 * (mean + normal(0.1))).round()
        means = torch.stack([mean + normal(noise), mean + normal(noise)])
        posterior = (255 * (mean + normal(0.1))).round()
        numbers = {"converged": float(index % 4 > 0), "log_density_truth": 30.0, "log_evidence": 10.0, "kl_nats": 50.0}
        decoded = (0.5 + (mean - 0.5) / 2)[None]
        answers.append(Answer(original[None], means, decoded, posterior[None, None], numbers))
    return answers


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_products_of_two_estimates_are_free_of_their_noise(noise: float):
    found = measures(made_answers(400, noise))
    assert found["identity"].value == pytest.approx(1, abs=0.06)
    assert found["power_mean"].value == pytest.approx(0.75, abs=0.03)
    assert found["power_decoder"].value == pytest.approx(0.75 / 4, abs=0.02)
    assert found["power_draw"].value == pytest.approx(1, abs=0.04)
    assert found["share_latent"].value == pytest.approx(0.25 / (1 - 0.75 / 4), abs=0.04)
    assert found["share_latent"].value + found["share_decoder"].value == pytest.approx(1)
    assert found["information_bits"].value == pytest.approx(20 / np.log(2))


def test_images_that_did_not_converge_are_reported_and_not_dropped():
    found = summary(made_answers(20, 0.0))
    assert (found["n"], found["converged"], len(found["images"])) == (20, 15, 20)
    assert found["metrics"]["identity"]["n"] == 20 and found["metrics_converged"]["identity"]["n"] == 15


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.BUDGETS, "smoke", TINY)


@pytest.mark.parametrize(
    "family", ["vae", pytest.param("vqvae", marks=pytest.mark.slow)], indirect=True, scope="session"
)
def test_a_model_is_answered_once_and_shown(trained: Path, small: None, tmp_path: Path, capsys):
    command = ["study", "posterior", str(trained), "--budget=smoke", f"--out={tmp_path}"]
    assert main(command) == 0
    assert "of 2 images converged" in capsys.readouterr().out
    (model,) = json.loads((tmp_path / "posterior.json").read_text())["models"]
    assert model["n"] == 2 and model["resolution"] == 16 and len(model["images"]) == 2
    assert model["weights"] == digest_of_networks(load(trained).components.values())
    powers = {name: sum(one[name] for one in model["images"]) for name in ("power_real", "power_mean")}
    assert powers["power_mean"] / powers["power_real"] == pytest.approx(model["metrics"]["power_mean"]["value"])
    assert {one["particles"] for one in model["images"]} <= {4.0, 8.0}
    assert Image.open(tmp_path / "figures" / f"{trained.name}-{model['weights'][:8]}.png").size[0] > 100
    assert (tmp_path / "figures" / "shares.png").is_file()
    files = sorted((tmp_path / "answers").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in files]
    first = (tmp_path / "posterior.json").read_bytes()
    files[1].unlink()
    assert main(command) == 0
    assert (tmp_path / "posterior.json").read_bytes() == first and files[0].stat().st_mtime_ns == times[0]


def test_answers_of_other_models_stay_unless_they_were_found_otherwise(tmp_path: Path, caplog):
    path = write_posterior(tmp_path, {"a": "a" * 64, "b": "b" * 64, "c": "c" * 64}) / "posterior.json"
    before = json.loads(path.read_text())
    of = {one["name"]: one for one in before["models"]}
    # One that was trained anew, and one that was moved.
    now = {**before, "models": [{**of["a"], "weights": "d" * 64}, {**of["b"], "name": "moved"}]}
    now["budget"] = {**before["budget"], "n": 48}
    assert study._kept(path, now) == [of["c"]] and not caplog.text
    assert study._kept(path, {**now, "seed": 1}) == []
    assert "c left out, answered by another version or budget; study again" in caplog.text
    path.write_text("{}")
    assert study._kept(path, now) == [] and "it is replaced" in caplog.text
    assert study._kept(tmp_path / "none.json", now) == []


@pytest.mark.parametrize("family", ["gan", "pix2pix"], indirect=True, scope="session")
def test_models_without_a_latent_that_is_known_are_refused(trained: Path, small: None, tmp_path: Path, capsys):
    assert main(["study", "posterior", str(trained), "--budget=smoke", f"--out={tmp_path / 'out'}"]) == 2
    assert "give a VAE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["loss", "posterior"], "posterior stands alone"),
        (["posterior", "--data=stacked"], "only glyphs have known factors"),
        (["posterior", "--n=1"], "n: 1 images asked of the 5000 held-out glyphs; give 2 to 5000"),
        (["loss", "--n=3"], "only the studies posterior and decoders take it"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: list[str], words: str, tmp_path: Path, capsys):
    assert main(["study", *arguments, f"--out={tmp_path / 'out'}"]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()
