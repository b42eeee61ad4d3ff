"""The GAN's settings: losses, augmentation, classes, penalties."""

import math
from pathlib import Path

import pytest
import torch
from tiny import backward, make_trainer

import hfgen
from hfgen.errors import UserError
from hfgen.families.gan import GAN
from hfgen.training.averaged_pipeline import averaged_pipeline
from hfgen.training.phases import Draws, Step

SMALL = {"latent_channels": 4, "max_width": 16, "discriminator_width": 8, "discriminator_max_width": 16}


def small(classes: int = 0, **settings) -> tuple[GAN, dict]:
    """A family at 16 px and its networks."""
    family = GAN(**{**SMALL, **settings})
    torch.manual_seed(0)
    return family, family.build(16, 1, classes)


def step_at(index: int = 0, labels: torch.Tensor | None = None) -> Step:
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Step(images, labels, Draws(0, 0, torch.device("cpu")), {}, index=index, progress=0.0)


VARIANTS = [
    ["--model.loss=hinge"],
    ["--model.loss=nonsaturating", "--model.augment=color,translation,cutout"],
    ["--model.conditional=true"],
    ["--model.network=r3", "--model.conditional=true", "--model.discriminator_width=16"],
    ["--model.network=dcgan", "--model.conditional=true", "--model.discriminator_width=16", "--model.penalty=0"],
]


@pytest.mark.parametrize("overrides", VARIANTS)
def test_each_phase_reaches_its_network_and_no_other(overrides: list[str], glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("gan", glyph_folder, *overrides)
    step = trainer.begin_step()
    for phase, other in zip(trainer.phases, ("discriminator", "gan"), strict=True):
        backward(trainer, phase, step)
        assert all(p.grad is not None for p in trainer.networks[phase.trains[0]].parameters())
        assert all(p.grad is None for p in trainer.networks[other].parameters())
        trainer.optimizers[phase.name].zero_grad()


@pytest.mark.parametrize(
    ("loss", "blind"), [("relativistic", math.log(2)), ("hinge", 1), ("nonsaturating", math.log(4))]
)
def test_a_blind_discriminators_loss_is_the_known_one(loss: str, blind: float):
    family, networks = small(loss=loss)
    for parameter in networks["discriminator"].parameters():
        torch.nn.init.zeros_(parameter)
    step = step_at(1)
    family._generator_loss(networks, step)
    assert family._discriminator_loss(networks, step).total.item() == pytest.approx(blind)


def test_the_penalty_comes_lazily_counts_as_often_and_sees_no_augmentation():
    family, networks = small(penalty=3.0, penalty_every=4, augment="color,cutout")
    totals = []
    for index in (1, 4):
        step = step_at(index)
        family._generator_loss(networks, step)
        seen = []
        handle = networks["discriminator"].register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0])
        )
        loss = family._discriminator_loss(networks, step)
        handle.remove()
        totals.append(loss.total.item())
        assert not torch.equal(seen[0], step.images)
    assert len(seen) == 4 and torch.equal(seen[2], step.images) and torch.equal(seen[3], step.carry["fakes"])
    penalty = 4 * 3.0 / 2 * (loss.terms["r1"] + loss.terms["r2"]).item()
    assert totals[1] - totals[0] == pytest.approx(penalty, rel=1e-4)


def test_fakes_are_of_the_real_images_classes_and_are_judged_as_such():
    labels = torch.arange(8) % 3
    family, networks = small(classes=3, conditional=True)
    step, seen = step_at(0, labels), []
    keep = {"with_kwargs": True}
    networks["gan"].register_forward_pre_hook(lambda _, inputs, __: seen.append(inputs[1]), **keep)
    networks["discriminator"].register_forward_pre_hook(
        lambda _, __, options: seen.append(options["class_labels"]), **keep
    )
    family._generator_loss(networks, step)
    family._discriminator_loss(networks, step)
    assert len(seen) == 7 and all(torch.equal(given, labels) for given in seen)


def test_classes_change_images_and_scores():
    _, networks = small(classes=3, conditional=True)
    latents = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    zero, one = (torch.full((2,), label) for label in (0, 1))
    images = networks["gan"](latents, zero)
    assert not torch.allclose(images, networks["gan"](latents, one), atol=1e-3)
    scores = networks["discriminator"](images, zero)
    assert not torch.allclose(scores, networks["discriminator"](images, one), atol=1e-3)


@pytest.mark.parametrize("network", ["shared", "dcgan", "r3"])
def test_a_conditional_run_is_published_with_its_classes(network: str, glyph_folder: Path, tmp_path: Path):
    overrides = ["--model.conditional=true", f"--model.network={network}", "--model.discriminator_width=16"]
    if network == "dcgan":
        overrides.append("--model.penalty=0")
    trainer = make_trainer("gan", glyph_folder, *overrides)
    trainer.step()
    published = averaged_pipeline(trainer)
    published.save_pretrained(tmp_path / "model")
    loaded = hfgen.load(tmp_path / "model")
    assert loaded.num_classes == 3
    images = [
        pipe(batch_size=2, class_labels=2, generator=torch.Generator().manual_seed(0), output_type="pt").images
        for pipe in (published, loaded)
    ]
    torch.testing.assert_close(*images, atol=1e-5, rtol=0)


def test_gamma_falls_by_a_cosine():
    family, networks = small(penalty=2.0, penalty_end=0.1)
    weights = []
    for progress in (0.0, 0.5, 1.0):
        step = step_at(0)
        step.progress = progress
        family._generator_loss(networks, step)
        loss = family._discriminator_loss(networks, step)
        penalty = (loss.terms["r1"] + loss.terms["r2"]) / 2
        weights.append(((loss.total - loss.terms["loss"]) / penalty / family.penalty_every).item())
    assert weights == pytest.approx([2.0, 1.1, 0.2], rel=1e-3)


@pytest.mark.parametrize("network", [{"network": "r3"}, {"network": "dcgan", "penalty": 0.0}])
def test_a_grids_numbers_are_taken_as_a_vector(network: dict):
    _, networks = small(latent_size=2, discriminator_width=16, **network)
    assert networks["gan"].latent_shape == (16, 1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditional": True}, r"model\.conditional: the data has no labels.*choose labelled data"),
        ({"augment": "color,flip"}, r"model\.augment: flip is unknown; choose some of color,translation,cutout"),
        ({"penalty": -1.0}, r"model\.penalty: -1\.0 is negative"),
        ({"penalty_every": 0}, r"model\.penalty_every: 0 is too small"),
        ({"beta1": 1.0}, r"model\.beta1: 1\.0 isn't in \[0, 1\)"),
        ({"latent_size": -1, "network": "r3"}, r"model\.latent_size: -1 is too small; give 1 or more"),
        ({"discriminator_width": 24, "network": "r3"}, r"model\.discriminator_width: 24 isn't a positive multiple"),
        ({"network": "dcgan"}, r"model\.penalty: 1\.0 is of each image alone, and network dcgan judges batches"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(settings: dict, message: str):
    with pytest.raises(UserError, match=message) as error:
        small(**settings)
    assert "\n" not in str(error.value)


def test_a_size_that_a_network_has_not_is_refused_with_those_that_it_has():
    with pytest.raises(UserError, match=r"^resolution: 48 .*, as network dcgan does; choose one of 16, .* shared$"):
        GAN(network="dcgan", penalty=0.0).build(48, 1)
