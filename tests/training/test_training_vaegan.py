"""The VAE-GAN: known answers of its objectives, and the defects that public scripts of it have."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch import nn

from hfgen.errors import UserError
from hfgen.families.vaegan import VAEGAN
from hfgen.models.patch_discriminator import PatchDiscriminator, receptive_field
from hfgen.objectives.adversarial import adaptive_weight, discriminator_warning, hinge_loss
from hfgen.objectives.reconstruction import laplace_nll
from hfgen.training.loop import Trainer, _open_data


def make_trainer(data: Path, out: Path, *overrides: str) -> Trainer:
    from accelerate import Accelerator

    config = tiny_config("vaegan", data, "--precision=fp32", *overrides)
    return Trainer(config, _open_data(config), Accelerator(), out)


def copies(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_hinge_loss_at_known_scores():
    assert hinge_loss(torch.zeros(3), torch.zeros(3)) == 1
    assert hinge_loss(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])) == 0
    assert hinge_loss(torch.tensor([0.0, 3.0]), torch.tensor([0.0, -1.0])) == pytest.approx(0.5 * (0.5 + 0.5))


def test_laplace_nll_is_torchs_negative_log_probability():
    images, medians = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    reference = -torch.distributions.Laplace(medians, (0.02 / 2) ** 0.5).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(laplace_nll(images, medians, 0.02), reference)


def test_adaptive_weight_is_the_ratio_of_the_last_layers_gradients():
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    nll, adversarial = (3 * last).sum(), (last * torch.tensor([0.0, 2.0])).sum()
    weight = adaptive_weight(nll, adversarial, last, lambda rows: rows)
    assert weight == pytest.approx((18**0.5) / (2 + 1e-4))
    assert last.grad is None and not weight.requires_grad
    nothing = (last * 0.0).sum()
    assert adaptive_weight((1e9 * last).sum(), nothing, last, lambda rows: rows) == 1e4


def test_a_warning_says_which_way_a_discriminator_has_failed():
    assert "tells nearly every image apart (loss 0.010)" in (discriminator_warning(0.01, 5.0) or "")
    assert "tells nothing apart" in (discriminator_warning(0.6931, 0.0) or "")
    assert discriminator_warning(0.5, 0.4) is None


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_every_size_is_judged_in_patches(size: int, layers: int):
    scores = PatchDiscriminator(3, 4, 8, layers)(torch.zeros(1, 3, size, size))
    assert scores.shape == (1, 1, size // 2**layers, size // 2**layers)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_score_sees_as_many_pixels_as_is_said(layers: int):
    discriminator = PatchDiscriminator(1, 4, 8, layers)
    images = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = discriminator(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = images.grad[0, 0].ne(0).nonzero()
    sides = seen.amax(0) - seen.amin(0) + 1
    assert sides.tolist() == [receptive_field(layers)] * 2


def test_before_its_time_the_discriminator_rests_and_the_vae_hears_nothing_of_it(glyph_folder: Path, tmp_path: Path):
    trainer = make_trainer(glyph_folder, tmp_path, "--model.adversarial_begin=0.5", "--model.adversarial_warmup=0")
    before = copies(trainer.networks["discriminator"])
    while trainer.images_seen < 48:
        trainer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.networks["discriminator"].parameters(), strict=True))
    assert "vae/adversarial" not in trainer.meters.state()
    trainer.step()
    assert not all(
        torch.equal(a, b) for a, b in zip(before, trainer.networks["discriminator"].parameters(), strict=True)
    )
    assert "vae/adversarial" in trainer.meters.state() and "discriminator/loss" in trainer.meters.state()


def test_the_adversarial_term_moves_the_encoder_and_the_decoder(glyph_folder: Path, tmp_path: Path):
    gradients = []
    for weight in (0.0, 0.5):
        begun = ("--model.adversarial_begin=0", "--model.adversarial_warmup=0", f"--model.adversarial_weight={weight}")
        trainer = make_trainer(glyph_folder, tmp_path, *begun)
        trainer._backward(trainer.phases[0], trainer._begin_step())
        gradients.append({key: p.grad.clone() for key, p in trainer.networks["vae"].named_parameters()})
        assert all(p.grad is None for p in trainer.networks["discriminator"].parameters())
    for key in ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight"):
        assert not torch.allclose(gradients[0][key], gradients[1][key], rtol=1e-2), key


def test_what_can_never_work_is_refused():
    with pytest.raises(UserError, match=r"model\.adversarial_begin: 1\.5 isn't in \[0, 1\)"):
        VAEGAN(adversarial_begin=1.5)
    with pytest.raises(UserError, match=r"model\.discriminator_layers: 9 can't halve 16 pixels; choose 1 to 4"):
        VAEGAN(discriminator_layers=9).build(16, 1)
