"""The VAE: its likelihoods reach what they should, and what is fitted to its latents is published."""

import math
from pathlib import Path

import pytest
import torch
from tiny import make_trainer
from trainings import Training, tiny_arguments

import hfgen
from hfgen.errors import UserError
from hfgen.families.vae import VAE, fit_latents
from hfgen.training.averaged_pipeline import averaged_pipeline, first_images
from hfgen.training.cadence import Cadence
from hfgen.training.phases import Draws, Step
from hfgen.training.trainer import Trainer

LIKELIHOODS = ["gaussian", "learned", "calibrated", "laplace", "logistic"]


def images_of(count: int = 8) -> torch.Tensor:
    return torch.randint(256, (count, 1, 16, 16), generator=torch.Generator().manual_seed(0)) / 127.5 - 1


def small(**settings) -> tuple[VAE, dict]:
    family = VAE(**{"latent_channels": 4, "max_width": 16, **settings})
    torch.manual_seed(0)
    return family, family.build(16, 1)


def step_at(progress: float = 0.5) -> Step:
    return Step(images_of(), None, Draws(0, 0, torch.device("cpu")), {}, index=0, progress=progress)


def saved(trainer: Trainer) -> dict[str, dict]:
    """What a checkpoint would hold of the averages, copied."""
    averaged_pipeline(trainer)
    return {name: {key: v.clone() for key, v in net.state_dict().items()} for name, net in trainer.averages.items()}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_trains_every_weight(likelihood: str):
    family, networks = small(likelihood=likelihood)
    (phase,) = family.phases()
    phase.loss(networks, step_at()).total.backward()
    assert ("likelihood" in networks) == (likelihood == "learned") == ("likelihood" in phase.trains)
    for name in phase.trains:
        assert all(p.grad is not None and p.grad.isfinite().all() for p in networks[name].parameters())


def test_a_learned_variance_at_its_optimum_is_the_calibrated_one():
    calibrated, networks = small(likelihood="calibrated")
    terms = calibrated._loss(networks, step_at()).terms
    torch.testing.assert_close(terms["variance"], terms["mse"])
    learned = VAE(latent_channels=4, max_width=16, likelihood="learned", variance=terms["mse"].item())
    networks["likelihood"] = learned.build(16, 1)["likelihood"]
    one, two = calibrated._loss(networks, step_at()).total, learned._loss(networks, step_at()).total
    torch.testing.assert_close(one, two)
    two.backward()
    # The optimum has no slope, but for the pixels' own.
    assert abs(networks["likelihood"].log_variance.grad.item()) < 1e-4


def test_free_bits_leave_an_unused_latent_alone():
    free, networks = small(free_bits=50.0, kl_warmup=0.0)
    none, _ = small(kl_weight=0.0)
    totals = [family._loss(networks, step_at()).total for family in (free, none)]
    ours, theirs = (torch.autograd.grad(total, list(networks["vae"].parameters())) for total in totals)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)
    assert (totals[0] - totals[1]).item() == pytest.approx(4 * 50 * math.log(2) / 256, rel=1e-4)


@pytest.mark.parametrize("likelihood", ["learned", "calibrated"])
def test_two_processes_learn_the_variance_that_one_learns(likelihood: str, glyph_folder: Path, tmp_path: Path):
    from safetensors.torch import load_file

    more = (f"--model.likelihood={likelihood}", "--model.free_bits=0.5", "--precision=fp32", "--max_images=48")
    for name, processes in (("one", 1), ("two", 2)):
        Training(tiny_arguments("vae", glyph_folder, tmp_path / name, *more), processes).finish()
    folder = tmp_path / "one" / "checkpoints" / "000000000048" / "training_state"
    for path in [*folder.glob("network.*"), *folder.glob("average.likelihood.*")]:
        one, two = load_file(path), load_file(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for key in one:
            torch.testing.assert_close(two[key], one[key], atol=2e-4, rtol=1e-3, msg=f"{path.stem}: {key}")


def test_a_resumed_run_fits_the_mixture_that_one_without_a_break_fits(glyph_folder: Path, tmp_path: Path):
    settings = ("--model.prior=mixture", "--model.prior_components=3", "--model.likelihood=learned")
    trainer = make_trainer("vae", glyph_folder, *settings)
    trainer.step()
    Cadence(trainer, tmp_path).save()
    resumed = make_trainer("vae", glyph_folder, *settings)
    Cadence(resumed, tmp_path).resume()
    for one in (trainer, resumed):
        one.step()
    first, second = saved(trainer), saved(resumed)
    assert first.keys() == {"vae", "likelihood", "prior"}
    for name in first:
        assert all(torch.equal(value, second[name][key]) for key, value in first[name].items()), name
    assert not torch.equal(first["prior"]["means"], trainer.networks["prior"].means)


def test_prior_and_statistics_are_those_of_the_latents_and_are_published(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vae", glyph_folder, "--model.latent_size=2", "--model.prior=gaussian")
    trainer.step()
    Cadence(trainer, tmp_path).save()
    pipe = hfgen.load(tmp_path / "checkpoints" / "000000000016")
    images, config = torch.cat(list(first_images(trainer, 100))), pipe.vae.config
    with torch.no_grad():
        posterior = pipe.vae.encode(images).latent_dist
    latents = posterior.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(pipe.prior.means[0], latents.flatten(1).mean(0), atol=1e-4, rtol=1e-4)
    channels = latents.transpose(0, 1).flatten(1)
    # As diffusers' pipelines read latents: with scaling_factor alone, and with all three.
    assert latents.std().item() * config.scaling_factor == pytest.approx(1, rel=1e-3)
    mean, deviation = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
    unit = (channels - mean[:, None]) * config.scaling_factor / deviation[:, None]
    torch.testing.assert_close(unit.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(unit.std(1), torch.ones(4), atol=2e-3, rtol=0)


def test_a_fitted_prior_is_the_default_and_normal_can_be_asked_for():
    family, networks = small()
    with torch.no_grad():
        fit_latents(networks, lambda count: iter([images_of(64)]))
    pipe = family.pipeline(networks)
    bare = VAE(latent_channels=4, max_width=16, prior="normal").pipeline({"vae": networks["vae"]})

    def draw(pipeline, **options):
        return pipeline(generator=[torch.Generator().manual_seed(0)], output_type="pt", **options).images

    assert torch.equal(draw(pipe), draw(pipe, prior="fitted"))
    assert torch.equal(draw(pipe, prior="normal"), draw(bare)) and not torch.equal(draw(pipe), draw(bare))
    with pytest.raises(ValueError, match="prior: no prior was fitted to this model; choose normal"):
        draw(bare, prior="fitted")
    with pytest.raises(ValueError, match="prior: 'uniform' is unknown; choose fitted or normal"):
        draw(pipe, prior="uniform")


def test_a_model_without_a_prior_is_saved_and_opened(tmp_path: Path):
    from diffusers import DiffusionPipeline

    family, networks = small(prior="normal")
    assert networks.keys() == {"vae"}
    family.pipeline(networks).save_pretrained(tmp_path)
    assert hfgen.load(tmp_path).prior is None
    assert DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True).prior is None
    # As hfgen published them before there were priors.
    index = (tmp_path / "model_index.json").read_text()
    (tmp_path / "model_index.json").write_text(index.replace(',\n  "prior": [\n    null,\n    null\n  ]', ""))
    assert "prior" not in (tmp_path / "model_index.json").read_text()
    assert hfgen.load(tmp_path).prior is None
    assert DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True).prior is None


def test_a_prior_of_other_latents_is_refused(tmp_path: Path):
    family, networks = small()
    family.pipeline(networks).save_pretrained(tmp_path)
    small(latent_channels=8)[1]["prior"].save_pretrained(tmp_path / "prior")
    with pytest.raises(UserError, match=r"fitted to latents \(8, 2, 2\), the vae's are \(4, 2, 2\)"):
        hfgen.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "components", "covariance"),
    [
        ({"prior": "gaussian"}, 1, "full"),
        ({"prior_components": 7}, 7, "full"),
        ({"latent_channels": 64, "latent_size": 4}, 1, "full"),
        ({"latent_channels": 32, "latent_size": 2}, 8, "full"),
        ({"latent_channels": 65, "latent_size": 4}, 10, "diagonal"),
    ],
)
def test_covariances_grow_no_larger_than_their_images_allow(settings: dict, components: int, covariance: str):
    prior = small(**settings)[1]["prior"]
    assert (len(prior.weights), prior.config.covariance) == (components, covariance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variance": 0.0}, r"model\.variance: 0\.0 isn't positive"),
        ({"free_bits": -1.0}, r"model\.free_bits: -1\.0 is negative"),
        ({"kl_weight": float("nan")}, r"model\.kl_weight: nan is negative"),
        ({"prior_components": 0}, r"model\.prior_components: 0 is too small"),
    ],
)
def test_settings_that_are_no_density_are_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        VAE(**settings)


def test_latents_that_no_prior_fits_are_refused_in_one_line():
    networks = small(prior="mixture")[1]
    with torch.no_grad():
        networks["vae"].encoder.conv_out.weight.fill_(torch.nan)
        with pytest.raises(UserError, match=r"^prior: it can't be fitted to latents that reach nan; train with a sm"):
            fit_latents(networks, lambda count: iter([images_of(64)]))
