"""The flow: its objective and its sampler against a Gaussian's closed form; frozen latents; noise and steps."""

import json
import math
from pathlib import Path

import pytest
import torch
from test_training_loop import make_trainer
from torch import Tensor

import hfgen
from hfgen.cli import main
from hfgen.errors import UserError
from hfgen.families.flow import Flow
from hfgen.images import to_float
from hfgen.objectives.straight_path import straight_path
from hfgen.pipelines.hfgen_pipelines_v1 import as_channels

SMALL = {"latent_channels": 4, "width": 16, "max_width": 16, "unet_width": 16, "unet_max_width": 16}
MEAN, DEVIATION = 0.3, 0.5


def exact_velocity(points: Tensor, time: float) -> Tensor:
    """E[noise - image | point] of images N(MEAN, DEVIATION^2) by pixel: both parts are Gaussian given the point."""
    variance = (1 - time) ** 2 * DEVIATION**2 + time**2
    centred = (points - (1 - time) * MEAN) / variance
    return time * centred - (MEAN + (1 - time) * DEVIATION**2 * centred)


@pytest.fixture
def pipe() -> hfgen.FlowPipeline:
    family = Flow(**SMALL, prior="normal")
    torch.manual_seed(0)
    return family.pipeline(family.build(16, 1))


def test_its_record_has_the_rate_and_the_latent_of_its_encoder(pipe: hfgen.FlowPipeline, glyph_folder: Path):
    found = hfgen.evaluate(pipe, str(glyph_folder), n=16, steps=1, extractor="pixels")
    mean, log_variance = pipe.posterior(to_float(found.originals))
    bits = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / math.log(2)
    assert found.record["metrics"]["rate_bits"]["value"] == pytest.approx(float(bits.mean()), rel=1e-5)
    latent = found.record["latent"]
    assert latent["shape"] == list(pipe.latent_shape) and latent["factor"] == 16 // pipe.latent_shape[1]
    assert latent["bits_per_pixel"] > 0 and "active_units" in found.record["metrics"]
    assert {"rate_bits", "posterior_mean"} <= set(found.columns)


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_least_squares_of_the_velocity_is_the_closed_form_of_a_gaussian(time: float):
    draws = torch.Generator().manual_seed(0)
    images = MEAN + DEVIATION * torch.randn(200_000, 1, generator=draws)
    noise = torch.randn(200_000, 1, generator=draws)
    points, velocities = straight_path(images, noise, torch.full((200_000,), time))
    rows = torch.cat([points, torch.ones_like(points)], 1)
    slope, offset = torch.linalg.lstsq(rows, velocities).solution.flatten()
    assert float(offset) == pytest.approx(float(exact_velocity(torch.zeros(1), time)), abs=0.01)
    assert float(slope + offset) == pytest.approx(float(exact_velocity(torch.ones(1), time)), abs=0.02)


def test_the_ends_of_a_path_are_image_and_noise():
    images, noise = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    points, velocities = straight_path(images, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(points, torch.stack([images[0], noise[1]])) and torch.equal(velocities, noise - images)


class Exact(torch.nn.Module):
    """A U-Net that gives the exact velocity of the Gaussian."""

    def forward(self, seen: Tensor, time: Tensor):
        from diffusers.models.unets.unet_2d import UNet2DOutput

        return UNet2DOutput(sample=exact_velocity(seen[:, :1], float(time) / 1000))


def test_the_sampler_carries_noise_to_the_gaussian(pipe):
    """The flow's map is image = MEAN + DEVIATION noise; Euler's error falls with the steps."""
    pipe.unet = Exact()
    noise = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted, latents = MEAN + DEVIATION * noise, torch.zeros(8, 4, 2, 2)
    errors = [float((pipe.flow(latents, noise, steps) - wanted).abs().mean()) for steps in (8, 32, 128)]
    assert errors[2] < 0.01 and errors[0] > 3 * errors[1] > 9 * errors[2]
    made = pipe.flow(latents, noise, 128)
    assert float(made.mean()) == pytest.approx(MEAN, abs=0.03) and float(made.std()) == pytest.approx(
        DEVIATION, abs=0.02
    )


def test_a_latents_numbers_are_repeated_over_their_cells_at_unit_scale():
    latents = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None] * 2 + 1
    config = {"scaling_factor": 0.25, "latents_mean": [1.0], "latents_std": [0.5]}
    channels = as_channels(latents, config, 4)
    assert channels[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert torch.equal(as_channels(latents, {}, 2), latents)
    shifted = as_channels(latents, {"shift_factor": 1.0, "scaling_factor": 0.5}, 2)
    assert shifted[0, 0].tolist() == [[1, 2], [3, 4]]


def test_a_reconstruction_depends_on_its_image_and_generator_alone(pipe):
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = pipe.reconstruct(images, output_type="pt", steps=2).images
    alone = pipe.reconstruct(images[2:], output_type="pt", steps=2).images
    torch.testing.assert_close(whole[2:], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(3)]
    sampled = pipe.reconstruct(images, output_type="pt", steps=2, generator=seeds).images
    again = pipe.reconstruct(images[1:2], output_type="pt", steps=2, generator=torch.Generator().manual_seed(1)).images
    torch.testing.assert_close(sampled[1:2], again, atol=1e-5, rtol=0)
    assert not torch.allclose(sampled, whole, atol=1e-2)


def test_steps_are_chosen_by_call_or_for_good_and_refused_where_there_are_none(pipe):
    def made(**options) -> Tensor:
        return pipe(generator=torch.Generator().manual_seed(0), output_type="pt", **options).images

    three = made(steps=3)
    assert not torch.equal(three, made(steps=1)) and pipe.sampler["steps"] == 20
    pipe.set_steps(3)
    assert torch.equal(made(), three) and pipe.sampler["steps"] == 3
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match="is no number of steps"):
            made(steps=wrong)
    vae = hfgen.VAEPipeline(pipe.vae)
    with pytest.raises(ValueError, match="a model of family vae draws an image in one pass"):
        vae.set_steps(3)


def test_between_two_seeds_latents_and_noise_both_move(pipe):
    from hfgen.images import unit_to_uint8
    from hfgen.space.knobs import changeable, interpolate

    pipe.set_steps(2)
    path = interpolate(pipe, 1, 2, 3)
    for seed, shown in ((1, path[0]), (2, path[2])):
        drawn = pipe(generator=torch.Generator().manual_seed(seed), output_type="pt").images[0]
        assert int((unit_to_uint8(drawn[None])[0].int() - shown.int()).abs().max()) <= 1
    assert not torch.equal(path[1], path[0]) and not torch.equal(path[1], path[2])
    # Its latent takes the knobs of its VAE's.
    assert changeable(pipe) and set(pipe.sampling_options) == {"steps"}


@pytest.mark.parametrize("family", ["vae"], indirect=True, scope="session")
def test_frozen_latents_stay_those_of_the_model_and_only_the_unet_learns(trained: Path, glyph_folder: Path):
    trainer = make_trainer("flow", glyph_folder, f"--start_from={trained}", "--model.freeze_encoder=true")
    assert [phase.name for phase in trainer.phases] == ["flow"]
    before = {name: value.clone() for name, value in trainer.networks["vae"].state_dict().items()}
    unet = trainer.networks["unet"].conv_in.weight.clone()
    trainer.step()
    source = hfgen.load(trained).vae
    for name, value in trainer.networks["vae"].state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(value, source.state_dict()[name])
    assert trainer.networks["vae"].config["scaling_factor"] == source.config["scaling_factor"] != 1
    assert not torch.equal(trainer.networks["unet"].conv_in.weight, unet)


def test_the_vae_rests_while_the_unet_learns(glyph_folder: Path):
    trainer = make_trainer("flow", glyph_folder, "--model.flow_begin=0.5")
    for _ in range(3):
        trainer.step()
    vae = {name: value.clone() for name, value in trainer.averages["vae"].state_dict().items()}
    unet = trainer.averages["unet"].conv_in.weight.clone()
    trainer.step()
    assert all(torch.equal(value, vae[name]) for name, value in trainer.averages["vae"].state_dict().items())
    assert not torch.equal(trainer.averages["unet"].conv_in.weight, unet)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"flow_begin": 0.0}, r"model\.flow_begin: 0\.0 isn't between 0 and 1"),
        ({"unet_width": 24}, r"model\.unet_width: 24 isn't a positive multiple of 16"),
        ({"unet_layers": 0}, r"model\.unet_layers: 0 is too small"),
    ],
)
def test_settings_that_build_nothing_are_refused(settings: dict, words: str):
    with pytest.raises(UserError, match=words):
        Flow(**{**SMALL, **settings}).build(16, 1)


@pytest.mark.parametrize(("width", "most", "resolution"), [(48, 64, 16), (16, 96, 48), (32, 32, 8)])
def test_every_width_and_size_is_built(width: int, most: int, resolution: int):
    built = Flow(**{**SMALL, "unet_width": width, "unet_max_width": most, "latent_size": resolution // 8})
    unet = built.build(resolution, 3)["unet"]
    seen = torch.zeros(1, 7, resolution, resolution)
    assert unet(seen, torch.ones(1)).sample.shape == (1, 3, resolution, resolution)


def test_a_damaged_scheduler_is_refused_by_name(pipe, tmp_path: Path):
    pipe.save_pretrained(tmp_path)
    config = tmp_path / "scheduler" / "scheduler_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "_class_name": "DDIMScheduler"}))
    with pytest.raises(UserError, match="scheduler: holds a DDIMScheduler, not a FlowMatchEulerDiscreteScheduler"):
        hfgen.load(tmp_path)
    config.write_text(json.dumps({**settings, "num_train_timesteps": "many"}))
    with pytest.raises(UserError, match="scheduler can't be loaded"):
        hfgen.load(tmp_path)
    config.unlink()
    with pytest.raises(UserError, match="scheduler_config"):
        hfgen.load(tmp_path)


def test_a_unet_of_other_latents_is_refused(pipe, tmp_path: Path):
    pipe.save_pretrained(tmp_path)
    other = Flow(**{**SMALL, "latent_channels": 8}).build(16, 1)["unet"]
    other.save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match=r"unet: in_channels, out_channels and sample_size \(9, 1, 16\) don't fit"):
        hfgen.load(tmp_path)


def test_steps_from_the_command_line_are_in_the_record(pipe, glyph_folder: Path, tmp_path: Path):
    model = str(tmp_path / "model")
    pipe.save_pretrained(model)
    options = [model, f"--data={glyph_folder}", "--n=40", "--steps=2"]
    assert main(["evaluate", *options, f"--out={tmp_path / 'out'}"]) == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["model"]["sampler"] == {"scheduler": "FlowMatchEulerDiscreteScheduler", "steps": 2}
    assert main(["sample", model, "--n=2", "--steps=0", f"--out={tmp_path / 'grid.png'}"]) == 2
    assert main(["sample", model, "--n=2", "--steps=3", f"--out={tmp_path / 'grid.png'}"]) == 0
