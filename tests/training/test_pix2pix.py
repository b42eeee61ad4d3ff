"""pix2pix: the five objectives of section 4.2, and who sees the condition."""

from pathlib import Path

import pytest
import torch
from tiny import backward, make_trainer

from hfgen.errors import UserError
from hfgen.families.pix2pix import Pix2Pix
from hfgen.training.phases import Draws, Step

OBJECTIVES = ["l1", "gan", "cgan", "l1+gan", "l1+cgan"]
SMALL = {"width": 16, "max_width": 16, "discriminator_width": 8, "discriminator_max_width": 16}


def small(**settings) -> tuple[Pix2Pix, dict]:
    """A family at 16 px and its networks."""
    family = Pix2Pix(**{**SMALL, **settings})
    torch.manual_seed(0)
    return family, family.build(16, 1)


def step_of(images: torch.Tensor) -> Step:
    return Step(images, None, Draws(0, 0, torch.device("cpu")), {}, index=0, progress=0.0)


def some_images(channels: int = 1) -> torch.Tensor:
    return torch.rand(4, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def gradients(network: torch.nn.Module) -> list:
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_phase_leaves_the_other_network_without_gradient(objective: str, glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("pix2pix", glyph_folder, f"--model.objective={objective}")
    step = trainer.begin_step()
    assert [phase.name for phase in trainer.phases] == ["translator", "discriminator"][: len(trainer.networks)]
    assert len(trainer.networks) == (1 if objective == "l1" else 2)
    for phase in trainer.phases:
        backward(trainer, phase, step)
        for name, network in trainer.networks.items():
            assert all((gradient is not None) == (name in phase.trains) for gradient in gradients(network))
        trainer.optimizers[phase.name].zero_grad()


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_the_conditional_discriminator_alone_sees_the_condition(objective: str):
    family, networks = small(objective=objective, condition="drawing", condition_channels=1)
    images, conditions = some_images(2).split(1, 1)
    one, other = (family._scores(networks, images, c) for c in (conditions, -conditions))
    assert torch.equal(one, other) == (not objective.endswith("cgan"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_total_is_the_sum_of_the_objectives_terms(objective: str):
    family, networks = small(objective=objective, l1_weight=7.0)
    loss = family._loss(networks, step_of(some_images()))
    expected = 7.0 * loss.terms["l1"] * objective.startswith("l1") + loss.terms.get("adversarial", 0.0)
    assert loss.total.item() == pytest.approx(float(expected), rel=1e-6)
    assert ("adversarial" in loss.terms) == ("gan" in objective)


def test_a_blind_discriminator_costs_log_2_and_is_halved():
    family, networks = small()
    torch.nn.init.zeros_(networks["discriminator"].blocks[-1].weight)
    step = step_of(some_images())
    assert family._loss(networks, step).terms["adversarial"].item() == pytest.approx(0.6931, abs=1e-4)
    assert family._discriminator_loss(networks, step).total.item() == pytest.approx(0.6931, abs=1e-4)
    torch.nn.init.constant_(networks["discriminator"].blocks[-1].bias, 20.0)
    assert family._discriminator_loss(networks, step).total.item() == pytest.approx(10.0, abs=1e-3)


def test_the_discriminator_sees_the_translators_own_outputs():
    family, networks = small(objective="gan")
    step, seen = step_of(some_images()), []
    networks["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    family._loss(networks, step)
    family._discriminator_loss(networks, step)
    assert torch.equal(seen[0], seen[2]) and seen[0].requires_grad and not seen[2].requires_grad
    assert torch.equal(seen[1], step.images)


def test_dropout_follows_the_steps_draws():
    family, networks = small(objective="l1", dropout=0.5)
    totals = [family._loss(networks, step_of(some_images())).total for _ in range(2)]
    assert torch.equal(*totals)
    assert not torch.equal(totals[0], small(objective="l1")[0]._loss(networks, step_of(some_images())).total)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 286}, r"model\.patch: 286 takes 5 halvings, too many for 16 pixels; choose 1, 16, 34, 70$"),
        ({"condition": ""}, r"model\.condition: empty"),
        ({"dropout": 1.0}, r"model\.dropout: 1\.0 isn't in \[0, 1\)"),
        ({"width": 12}, r"model\.width: 12 isn't a positive multiple of 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        small(**settings)


@pytest.mark.parametrize("resolution", [8, 24, 100])
def test_a_size_that_is_no_power_of_two_is_refused(resolution: int):
    with pytest.raises(UserError, match=rf"resolution: {resolution} isn't a power of two of 16 or more"):
        Pix2Pix(**SMALL).build(resolution, 1)


def test_edges_need_no_pairs_and_a_column_names_itself():
    assert Pix2Pix().paired_with is None
    assert Pix2Pix(condition="drawing", condition_channels=1).paired_with == ("drawing", 1)
