"""ALI: two ways to make a pair (image, latent), and one discriminator of pairs."""

import pytest
import torch

from hfgen.families.ali import ALI
from hfgen.objectives.adversarial import gradient_penalty
from hfgen.training.phases import Draws, Step


def small(**settings) -> tuple[ALI, dict]:
    family = ALI(
        latent_channels=4, max_width=16, discriminator_width=8, discriminator_max_width=16, penalty_every=2, **settings
    )
    torch.manual_seed(0)
    return family, family.build(16, 1)


def step_at(index: int = 0) -> Step:
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Step(images, None, Draws(0, 0, torch.device("cpu")), {}, index=index, progress=0.0)


def test_the_encoder_lowers_the_score_of_its_pairs_and_the_generator_raises_that_of_its_own():
    family, networks = small()
    networks["discriminator"].requires_grad_(False)
    optimizer = torch.optim.SGD(networks["vae"].parameters(), lr=1e-3)
    margins = []
    for _ in range(2):
        step = step_at()
        family._loss(networks, step).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        margins.append(family._discriminator_loss(networks, step).terms["margin"])
    assert margins[1] < margins[0]


def test_the_discriminator_sees_the_pairs_that_the_other_side_made_and_reaches_nobody_through_them():
    family, networks = small()
    step, seen = step_at(index=1), []
    networks["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    family._loss(networks, step)
    family._discriminator_loss(networks, step).total.backward()
    (generated, latents), (images, inferred), encoder, generator = seen
    assert torch.equal(networks["vae"].decode(latents).sample, generated) and torch.equal(images, step.images)
    assert all(
        torch.equal(*pair) for pair in zip((images, inferred, generated, latents), (*encoder, *generator), strict=True)
    )
    assert inferred.requires_grad and generated.requires_grad
    assert all(parameter.grad is None for parameter in networks["vae"].parameters())
    assert all(parameter.grad is not None for parameter in networks["discriminator"].parameters())


def test_the_discriminator_sees_both_halves_of_a_pair():
    _, networks = small()
    step = step_at()
    latents = step.draws.normal((8, 4, 2, 2))
    score = networks["discriminator"]
    assert not torch.allclose(score(step.images, latents), score(step.images, -latents))
    assert not torch.allclose(score(step.images, latents), score(-step.images, latents))


@pytest.mark.parametrize(("index", "penalised"), [(0, True), (1, False), (2, True)])
def test_the_penalty_is_lazy(index: int, penalised: bool):
    family, networks = small()
    step = step_at(index)
    family._loss(networks, step)
    assert ("r1" in family._discriminator_loss(networks, step).terms) == penalised


def test_the_penalty_of_pairs_is_the_sum_of_both_halves():
    images, latents = torch.randn(5, 1, 2, 2), torch.randn(5, 3)
    penalty = gradient_penalty(lambda x, z: 2 * x.flatten(1).sum(1) + 3 * z.sum(1), images, latents)
    assert penalty.item() == pytest.approx(4 * 4 + 9 * 3)


def test_a_spatial_latent_is_judged_too():
    family = ALI(latent_channels=2, latent_size=4, max_width=16, discriminator_width=8, discriminator_max_width=16)
    networks = family.build(16, 3)
    assert networks["discriminator"](torch.zeros(4, 3, 16, 16), torch.zeros(4, 2, 4, 4)).shape == (4,)
