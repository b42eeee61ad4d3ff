"""The peers of the quality table do what they are said to do."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hfgen.errors import UserError


def test_the_autoencoders_loss_is_that_of_diffusers_script(scripts):
    from benchmarks import diffusers_recipe

    torch.manual_seed(0)
    images, features = torch.rand(4, 1, 8, 8) * 2 - 1, torch.rand(4, 3, 8, 8)
    layer, judge = torch.nn.Conv2d(3, 1, 3, padding=1), torch.nn.Conv2d(1, 1, 4)
    kl, decoded = torch.rand(4), layer(features)
    found = diffusers_recipe.autoencoder_loss(images, decoded, kl, judge(decoded), layer.weight, 1.0)
    # The script's own lines, with its defaults.
    nll_loss = F.mse_loss(decoded.float(), images.float(), reduction="none")
    nll_loss = torch.sum(nll_loss) / nll_loss.shape[0]
    kl_loss = torch.sum(kl) / kl.shape[0]
    g_loss = -torch.mean(judge(decoded))
    nll_grads = torch.autograd.grad(nll_loss, layer.weight, retain_graph=True)[0]
    g_grads = torch.autograd.grad(g_loss, layer.weight, retain_graph=True)[0]
    disc_weight = torch.clamp(torch.norm(nll_grads) / (torch.norm(g_grads) + 1e-4), 0.0, 1e4).detach() * 1.0
    torch.testing.assert_close(found, nll_loss + 1e-6 * kl_loss + disc_weight * 1.0 * g_loss)
    silent = diffusers_recipe.autoencoder_loss(images, decoded, kl, judge(decoded), layer.weight, 0.0)
    torch.testing.assert_close(silent, nll_loss + 1e-6 * kl_loss)
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.0])
    # Hinge: (.5 + 0) / 2 of the real ones and (0 + 1) / 2 of the others, halved.
    assert float(diffusers_recipe.discriminator_loss(real, fake)) == pytest.approx(0.375)


def test_the_patch_discriminator_is_tamings(scripts):
    from benchmarks.diffusers_recipe import patch_discriminator

    network = patch_discriminator(3)
    # 2,764,737 of NLayerDiscriminator(input_nc=3, ndf=64, n_layers=3).
    widths = (64, 128, 256, 512)
    norms = sum(2 * width for width in widths[1:])
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert sum(weight.numel() for weight in network.parameters()) == kernels + norms + 64 + 1
    assert network(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_diffusers_loop_trains_each_network_in_its_turn(scripts):
    from benchmarks.diffusers_recipe import DiffusersLoop
    from tiny import tiny_config

    network = tiny_config("vae", Path()).model.build(16, 1)["vae"].config
    torch.manual_seed(0)
    loop, images = DiffusersLoop(dict(network)), torch.rand(4, 1, 32, 32) * 2 - 1
    nets = {"vae": loop.vae, "discriminator": loop.discriminator}
    for adversarial, expected in ((False, "vae"), (False, "vae"), (True, "vae"), (True, "discriminator")):
        before = {name: [weight.detach().clone() for weight in net.parameters()] for name, net in nets.items()}
        loop.step(images, adversarial=adversarial)
        moved = {
            name
            for name, net in nets.items()
            if any(not torch.equal(old, new) for old, new in zip(before[name], net.parameters(), strict=True))
        }
        assert moved == {expected}


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 1), (64, 3)])
def test_a_dcgan_of_each_size(scripts, resolution: int, channels: int):
    from benchmarks import dcgan

    torch.manual_seed(0)
    with torch.device("meta"):
        generator, discriminator = dcgan.networks(resolution, channels)
        made = generator(torch.zeros(2, 100, 1, 1))
        assert made.shape == (2, channels, resolution, resolution) and discriminator(made).shape == (2,)
        with pytest.raises(UserError, match="can't reach 48"):
            dcgan.networks(48, 1)


def test_processor_time_is_spent_and_images_are_counted(scripts):
    from benchmarks.budget import spend

    shares = []

    def steps(share: float) -> int:
        shares.append(share)
        return sum(range(200)) and 8

    images, took = spend(0.02, steps)
    assert images == 8 * len(shares) and took >= 0.02 and shares == sorted(shares) and shares[-1] < 1


@pytest.mark.parametrize(
    ("side", "channels", "border", "shape"),
    [(32, 1, 0, (1, 28, 28)), (32, 1, 7, (3, 32, 32)), (32, 3, 7, (3, 32, 32)), (64, 3, 7, (3, 64, 64))],
)
def test_images_go_into_pythaes_networks_and_come_back(scripts, side: int, channels: int, border: int, shape):
    from benchmarks.peers import _format

    images = torch.full((3, channels, side, side), border, dtype=torch.uint8)
    images[:, :, 4:-4, 4:-4] = torch.randint(256, (3, channels, side - 8, side - 8), dtype=torch.uint8)
    form = _format(images)
    units = form.units(images)
    assert form.shape == shape == units.shape[1:] and float(units.max()) <= 1
    assert torch.equal(form.pixels(units), images)


def test_a_size_that_pythae_has_no_network_for(scripts):
    from benchmarks.peers import _format

    with pytest.raises(UserError, match="no networks for 1 channels of 48 px"):
        _format(torch.zeros(1, 1, 48, 48, dtype=torch.uint8))


def test_pythae_sees_all_images_before_one_comes_again(scripts):
    from benchmarks.peers import _Images

    data = _Images(torch.arange(10))
    seen = []
    for _ in range(5):
        data.turn(4)
        assert len(data) == 4
        seen += data.images[data.rows].tolist()
    assert sorted(seen) == sorted([*range(10), *range(10)])
    assert sorted(seen[:10]) == list(range(10))


def test_pictures_in_any_layout_are_kept(scripts, tmp_path: Path):
    from benchmarks.budget import Made
    from safetensors.torch import load_file, save_file

    # As pythae's PixelCNN gives them in colour.
    samples = torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    save_file(Made(0, 0.0, samples, None).pictures, tmp_path / "pictures.safetensors")
    assert torch.equal(load_file(tmp_path / "pictures.safetensors")["samples"], samples)


def test_nan_never_becomes_a_pixel_of_pythaes(scripts):
    from benchmarks.peers import _format

    form = _format(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    with pytest.raises(UserError, match="NaN or infinity, first for image 1"):
        form.pixels(torch.tensor([0.5, float("nan")]).view(2, 1, 1, 1).expand(2, 1, 28, 28))
