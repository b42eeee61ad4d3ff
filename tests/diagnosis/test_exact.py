"""What `hfgen study posterior` found of a model bounds its diagnosis, and no other model's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hfgen.cli import main
from hfgen.diagnosis import exact
from hfgen.diagnosis.exact import _relative
from hfgen.documents import DIAGNOSIS, POSTERIOR
from hfgen.files import write_json
from hfgen.metrics import Estimate
from hfgen.pipelines.places import resolve_folder
from hfgen.pipelines.weight_digest import digest_of_folder

COMMON = ["--no-refits", "--extractor=pixels", "--n=24"]


@pytest.fixture(scope="module")
def vae(trained_of: Callable[[str], Path]) -> Path:
    return trained_of("vae")


def posterior_of(model: Path, folder: Path, resolution: int = 16) -> Path:
    """A file that says of the model's latents that they have nine tenths of the power."""
    known = Estimate(0.9, 0.88, 0.92, 8).as_dict()
    images = [{"power_real": 1.0 + index / 9, "power_mean": 0.9 + index / 10} for index in range(8)]
    model_entry = {
        "name": "x",
        "id": "x",
        "weights": digest_of_folder(resolve_folder(model)),
        "resolution": resolution,
        "n": 8,
        "converged": 7,
        "metrics": dict.fromkeys(("power_mean", "psnr_mean", "share_decoder"), known),
        "images": images,
    }
    budget = {"name": "full", "n": 8, "points": 1, "particles": 1, "sweeps": 1, "attempts": 1}
    facts = {"schema": POSTERIOR.version, "budget": budget, "seed": 0, "versions": {}}
    folder.mkdir(exist_ok=True)
    write_json(folder / "posterior.json", {**facts, "models": [model_entry]})
    return folder


def test_the_posterior_of_this_model_bounds_what_is_put_down_to_its_latent(
    vae: Path, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    # The built-in glyphs are 60,000 images; these are some of them.
    monkeypatch.setattr(exact, "_DATA", str(glyph_folder))
    known, out = posterior_of(vae, tmp_path / "known"), tmp_path / "out"
    assert main(["diagnose", str(vae), f"--data={glyph_folder}", f"--out={out}", f"--posterior={known}", *COMMON]) == 0
    document = DIAGNOSIS.read(out / "diagnosis.json")
    power = next(link["power"]["high"]["value"] for link in document["chain"] if link["stage"] == "mean")
    causes = {name: each["value"] for name, each in document["causes"].items()}
    assert causes["bottleneck"] == pytest.approx(0.1) and causes["unread"] == pytest.approx(0.9 - power)
    assert document["exact"]["n"] == 8 and "1 of 8 images didn't converge" in " ".join(document["notes"])
    assert document["exact"]["share_decoder"]["value"] == 0.9
    assert "in the latent, not read" in (out / "report.html").read_text()
    capsys.readouterr()


def test_the_posterior_of_another_model_size_or_data_is_refused_before_the_work(
    vae: Path, trained_of: Callable[[str], Path], glyph_folder: Path, tmp_path: Path, capsys
):
    def refused(folder: Path, data: str = "glyphs", *more: str) -> str:
        words = ["diagnose", str(vae), f"--data={data}", f"--out={tmp_path / 'out'}", f"--posterior={folder}", *COMMON]
        assert main([*words, *more]) == 2 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    other = posterior_of(trained_of("vqvae"), tmp_path / "other")
    assert f"none has the weights of {vae} at 16 px" in refused(other)
    assert "is of x at 32 px" in refused(posterior_of(vae, tmp_path / "large", 32))
    known = posterior_of(vae, tmp_path / "known")
    assert "posterior: it is of glyphs" in refused(known, str(glyph_folder))
    assert "the variant is fp16" in refused(known, "glyphs", "--variant=fp16")
    assert "there is no " in refused(tmp_path / "nowhere")
    document = json.loads((known / "posterior.json").read_text())
    for part in (document["models"][0]["images"][-1], document["models"][0]["metrics"]):
        lost = part.pop("power_mean")
        write_json(known / "posterior.json", document)
        assert "lacks powers of" in refused(known)
        part["power_mean"] = lost


def test_the_spread_of_a_ratio_is_that_of_its_resamples():
    draws = torch.Generator().manual_seed(0)
    real = 1 + torch.rand(400, generator=draws)
    mean = 0.7 * real + 0.1 * torch.rand(400, generator=draws)
    found = _relative([{"power_real": float(r), "power_mean": float(m)} for r, m in zip(real, mean, strict=True)])
    picks = torch.randint(400, (4000, 400), generator=draws)
    ratios = mean[picks].mean(1) / real[picks].mean(1)
    assert float(found.mean()) == pytest.approx(float(mean.mean() / real.mean()))
    assert float(found.std()) / 20 == pytest.approx(float(ratios.std()), rel=0.06)
