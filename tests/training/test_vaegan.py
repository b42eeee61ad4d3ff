"""The VAE-GAN: one forward for two phases, an adversary that waits for its share of the run."""

from pathlib import Path

import pytest
import torch
from tiny import make_trainer

from hfgen.errors import UserError
from hfgen.families.vae import VAE
from hfgen.families.vaegan import VAEGAN
from hfgen.training.phases import Draws, Step

SMALL = {"latent_channels": 4, "max_width": 16, "discriminator_width": 8, "discriminator_max_width": 16}


def small(**settings) -> tuple[VAEGAN, dict]:
    """A family at 16 px whose adversary is on from the start, and its networks."""
    family = VAEGAN(**{**SMALL, "adversarial_begin": 0.0, "adversarial_warmup": 0.0, **settings})
    torch.manual_seed(0)
    return family, family.build(16, 1)


def step_at(progress: float = 0.0) -> Step:
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Step(images, None, Draws(0, 0, torch.device("cpu")), {}, index=0, progress=progress)


def test_the_adversary_rests_until_it_begins(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer("vaegan", glyph_folder, "--model.adversarial_begin=0.5")
    before = {key: value.clone() for key, value in trainer.networks["discriminator"].state_dict().items()}
    for _ in range(3):
        trainer.step()
    after = trainer.networks["discriminator"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not trainer.optimizers["discriminator"].state
    trainer.step()
    assert not any(torch.equal(before[key], after[key]) for key in before)


def test_before_it_begins_the_loss_is_the_vaes():
    family, networks = small(adversarial_begin=0.5)
    vae = VAE(latent_channels=4, max_width=16)
    ours, theirs = family._loss(networks, step_at(0.4)), vae._loss(networks, step_at(0.4))
    assert torch.equal(ours.total, theirs.total) and ours.terms.keys() == theirs.terms.keys()


@pytest.mark.parametrize(("progress", "share"), [(0.5, 0.0), (0.55, 0.25), (0.6, 0.5), (0.7, 1.0), (0.99, 1.0)])
def test_the_adversarial_weight_rises_linearly(progress: float, share: float):
    family, networks = small(adversarial_begin=0.5, adversarial_warmup=0.2, adaptive=False, adversarial_weight=3.0)
    terms = family._loss(networks, step_at(progress)).terms
    assert float(terms.get("adversarial_weight", 0.0)) == pytest.approx(3 * share)


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer():
    family, networks = small(adversarial_weight=0.7)
    step = step_at()
    means, nll, _ = family._bound(networks, step)
    adversarial = -networks["discriminator"](means).mean()
    last = networks["vae"].decoder.conv_out.weight
    one, other = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (nll, adversarial))
    terms = family._loss(networks, step_at()).terms
    assert terms["adversarial_weight"].item() == pytest.approx(0.7 * (one / (other + 1e-4)).item(), rel=1e-4)
    assert not terms["adversarial_weight"].requires_grad


def test_the_discriminator_sees_the_autoencoders_own_reconstructions():
    family, networks = small()
    step = step_at()
    seen = []
    handle = networks["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    family._loss(networks, step)
    family._discriminator_loss(networks, step)
    handle.remove()
    assert torch.equal(seen[0], seen[2]) and seen[0].requires_grad and not seen[2].requires_grad
    assert torch.equal(seen[1], step.images)


def test_a_better_reconstruction_for_the_discriminator_lowers_the_autoencoders_loss():
    family, networks = small(adaptive=False, adversarial_weight=1.0)
    terms = family._loss(networks, step_at())
    torch.nn.init.constant_(networks["discriminator"].blocks[-1].bias, 2.0)
    raised = family._loss(networks, step_at())
    assert (terms.total - raised.total).item() == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adversarial_begin": 1.0}, r"model\.adversarial_begin: 1\.0 isn't in \[0, 1\)"),
        ({"adversarial_warmup": -0.1}, r"model\.adversarial_warmup: -0\.1 isn't in \[0, 1\]; it is a share"),
        ({"discriminator_layers": 5}, r"model\.discriminator_layers: 5 can't halve 16 pixels; choose 1 to 4"),
        ({"discriminator_layers": 0}, r"model\.discriminator_layers: 0 can't halve"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        small(**settings)
