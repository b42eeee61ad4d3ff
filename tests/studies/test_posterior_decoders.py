"""L2 decoders of a frozen latent: trained once, from milestone to milestone, and measured against E[x | z]."""

import json
from pathlib import Path

import pytest
import torch

from hfgen.cli import main
from hfgen.devices import choose
from hfgen.pipelines import load
from hfgen.studies.posterior import study_decoders, study_posterior
from hfgen.studies.posterior.decoder_training import BATCH, _fresh, train_decoder
from hfgen.studies.posterior.encoders import GaussianEncoder
from hfgen.studies.posterior.exact_answer import Answer, Size


def test_the_error_to_the_mean_is_free_of_the_noise_of_its_estimates():
    generator = torch.Generator().manual_seed(0)
    answers, decoded = [], []
    for _ in range(200):
        mean = 0.5 + 0.1 * torch.randn(1, 16, 16, generator=generator)
        means = torch.cat([mean + 0.2 * torch.randn(1, 16, 16, generator=generator) for _ in range(2)])
        image = (255 * mean).clamp(0, 255).to(torch.uint8)
        numbers = {"converged": 1.0, "log_density_truth": 0.0, "log_evidence": 0.0, "kl_nats": 0.0}
        answers.append(Answer(image, means, mean, image[None], numbers))
        decoded.append(mean + 0.1)
    found = study_decoders.measured(answers, torch.stack(decoded))
    # .1 off everywhere; one estimate alone would add its variance of .04.
    assert found["error_to_mean"]["value"] == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_a_decoder_goes_on_from_its_last_milestone_with_the_same_bits(trained: Path, tmp_path: Path):
    encoder = GaussianEncoder(choose("cpu").place(load(trained)))
    whole = {seen: dict(one.state_dict()) for seen, one in _states(encoder, (BATCH, 3 * BATCH), tmp_path / "a")}
    assert [seen for seen, _ in _states(encoder, (BATCH,), tmp_path / "b")] == [BATCH]
    # Going on reads the first milestone's file and trains the rest.
    parted = {seen: dict(one.state_dict()) for seen, one in _states(encoder, (BATCH, 3 * BATCH), tmp_path / "b")}
    for name, value in whole[3 * BATCH].items():
        assert torch.equal(value, parted[3 * BATCH][name])
    latents = torch.randn(2, *encoder.latent_shape)
    assert len(list((tmp_path / "b").glob("*.safetensors"))) == 2 and latents.isfinite().all()


def _states(encoder: GaussianEncoder, milestones: tuple[int, ...], folder: Path):
    import copy

    for seen, decoder in train_decoder(encoder, 16, 16, milestones, 0, folder):
        yield seen, copy.deepcopy(decoder)


def test_no_glyph_is_seen_twice():
    cpu = torch.device("cpu")
    first, second = (torch.cat(list(_fresh(*part, 16, cpu))) for part in ((0, 2 * BATCH), (2 * BATCH, 3 * BATCH)))
    assert len(first) == 2 * BATCH and len(second) == BATCH
    assert len(torch.cat([first, second]).flatten(1).unique(dim=0)) == 3 * BATCH


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_the_command_trains_what_is_asked_and_refuses_the_rest(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    small = study_posterior.Budget(2, Size(points=2, particles=4, sweeps=2, attempts=1), images=32)
    monkeypatch.setitem(study_posterior.BUDGETS, "smoke", small)
    command = ["study", "decoders", str(trained), "--budget=smoke", f"--out={tmp_path}", "--images=200"]
    assert main(command) == 0
    (model,) = json.loads((tmp_path / "decoders.json").read_text())["models"]
    (row,) = model["decoders"]
    assert (row["width"], row["images_seen"], model["n"]) == (16, 2 * BATCH, 2)
    assert set(row["metrics"]) == {"psnr_decoder", "power_decoder", "share_decoder", "error_to_mean"}
    assert (tmp_path / "figures" / f"{trained.name}-decoders.png").is_file()
    capsys.readouterr()
    for arguments, words in (
        (["decoders"], "name one behind decoders"),
        (["decoders", str(trained), "--images=3"], "give 16000 or more"),
        (["posterior", str(trained), "--images=99"], "only the study decoders takes it"),
        (["loss", "--images=99"], "only the study decoders takes it"),
    ):
        assert main(["study", *arguments, f"--out={tmp_path / 'no'}"]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "no").exists()
