"""The U-Net translator, the edges that it can start from, and how far its PatchGAN sees."""

import pytest
import torch

from hfgen.models.hfgen_translator_v1 import Translator, edges
from hfgen.models.patch_discriminator import PatchDiscriminator, receptive_field


def translator(**settings) -> Translator:
    torch.manual_seed(0)
    return Translator(**{"out_channels": 1, "sample_size": 16, "width": 16, "max_width": 16, **settings})


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_every_size_is_translated_in_range_and_starts_near_grey(size: int):
    network = translator(condition_channels=3, out_channels=3, sample_size=size, width=8, max_width=16)
    images = network(torch.randn(2, 3, size, size))
    assert images.shape == (2, 3, size, size) and images.abs().max() <= 1
    assert 0.05 < images.std() < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_doubling_draws_no_checkerboard(seed: int):
    network = translator(sample_size=64)
    torch.manual_seed(seed)
    torch.nn.init.normal_(network.up[-1].weight, std=0.05)
    image = network(torch.full((1, 1, 64, 64), 0.5))[0, 0, 8:56, 8:56]
    sign = 1 - 2 * (torch.arange(48) % 2)
    share = (image * sign * sign[:, None]).mean().abs() / image.std()
    # Transposed convolutions give .05 to .6.
    assert share < 0.01


def test_every_parameter_is_reached():
    network = translator(sample_size=32)
    network(torch.randn(2, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_skip_connections_carry_what_the_bottleneck_loses():
    network = translator(sample_size=64).eval()
    with torch.no_grad():
        network.up[0].weight.zero_()
    one, other = torch.randn(2, 1, 1, 64, 64)
    assert not torch.allclose(network(one), network(other), atol=0.1)


def test_each_image_is_translated_alone():
    network, conditions = translator(), torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(network(conditions)[2:3], network(conditions[2:3]))


def test_noise_drops_its_share_and_none_drops_nothing():
    network = translator(dropout=0.25)
    conditions = torch.randn(3, 1, 16, 16)
    noise = torch.rand(3, *network.noise_shape)
    assert network.noise_shape == (16 * (4**2 + 8**2),)
    (inner, outer) = network._masks(noise)
    assert inner.shape == (3, 16, 4, 4) and outer.shape == (3, 16, 8, 8)
    assert outer.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert outer.max().item() == pytest.approx(1 / 0.75)
    assert not torch.allclose(network(conditions, noise), network(conditions))
    assert torch.equal(
        network(conditions, torch.ones_like(noise) - 1e-3), network(conditions, torch.full_like(noise, 0.5))
    )
    assert torch.equal(translator()(conditions, noise), translator()(conditions))


def test_a_flat_image_has_no_edges_and_a_straight_step_the_strongest():
    flat = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(edges(flat), -torch.ones(1, 1, 8, 8))
    step = torch.cat([-torch.ones(1, 1, 8, 4), torch.ones(1, 1, 8, 4)], 3)
    expected = -torch.ones(1, 1, 8, 8)
    expected[..., 3:5] = 1
    assert torch.equal(edges(step), expected)
    assert torch.equal(edges(step.mT), expected.mT)
    torch.testing.assert_close(edges(step / 4), expected.add(1).div(4).sub(1))


def test_edges_are_those_of_scikit_image():
    from skimage.filters import sobel

    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # It averages the squares of both directions.
    magnitude = torch.from_numpy(sobel(image[0, 0].numpy(), mode="nearest")).float() * 2**0.5
    torch.testing.assert_close(edges(image)[0, 0], magnitude.clamp(max=2) - 1, atol=1e-5, rtol=0)


def test_edges_of_colour_are_those_of_its_luma():
    colour = torch.rand(2, 3, 8, 8) * 2 - 1
    luma = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]
    torch.testing.assert_close(edges(colour), edges(luma))


def test_pairs_are_cut_where_the_conditions_begin():
    images = torch.randn(2, 4, 16, 16)
    targets, conditions = translator(condition="drawing", out_channels=3).pair(images)
    assert torch.equal(targets, images[:, :3]) and torch.equal(conditions, images[:, 3:])
    targets, conditions = translator(out_channels=3).pair(images[:, :3])
    assert torch.equal(targets, images[:, :3]) and torch.equal(conditions, edges(images[:, :3]))


@pytest.mark.parametrize(("layers", "side"), [(0, 1), (1, 16), (2, 34), (3, 70), (5, 286)])
def test_a_patchs_score_sees_its_receptive_field_and_no_pixel_beyond(layers: int, side: int):
    torch.manual_seed(0)
    network, size = PatchDiscriminator(1, 8, 8, layers), 512 if layers == 5 else 128
    images = torch.randn(1, 1, size, size, requires_grad=True)
    scores = network(images)
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, middle, middle], images)
    rows, columns = gradient[0, 0].nonzero().T
    first, last = int(rows.min()), int(rows.max())
    assert receptive_field(layers) == side == last - first + 1 == columns.max() - columns.min() + 1
    for row, seen in ((first - 1, False), (last + 1, False), (first, True)):
        moved = images.detach().clone()
        moved[0, 0, row, int(columns.min())] += 100
        assert torch.equal(network(moved)[0, 0, middle, middle], scores[0, 0, middle, middle]) == (not seen)
