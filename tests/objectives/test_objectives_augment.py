"""DiffAugment: known answers for known random numbers, gradients, one draw an image."""

import pytest
import torch
from torch import Tensor

from hfgen.objectives.augment import POLICIES, augment


def images(count: int = 6, channels: int = 3, side: int = 16) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawing(seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.rand(shape, generator=generator)


def fixed(*values: float):
    """The same numbers for every image."""
    return lambda shape: torch.tensor(values).expand(shape)


def test_no_policy_is_the_identity():
    real = images()
    assert augment(real, [], drawing()) is real


@pytest.mark.parametrize(
    ("name", "values"), [("color", (0.5, 0.5, 0.5)), ("translation", (0.5, 0.5)), ("translation", (0.4, 0.59))]
)
def test_the_middle_of_every_range_is_the_identity(name: str, values: tuple[float, ...]):
    torch.testing.assert_close(augment(images(), [name], fixed(*values)), images())


def test_color_is_brightness_then_saturation_then_contrast():
    real = images(2)
    torch.testing.assert_close(augment(real, ["color"], fixed(0.9, 0.5, 0.5)), real + 0.4)
    grey = augment(real, ["color"], fixed(0.5, 0.0, 0.5))
    torch.testing.assert_close(grey, real.mean(1, keepdim=True).expand_as(real))
    contrasted = augment(real, ["color"], fixed(0.5, 0.5, 0.0))
    mean = real.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(contrasted, mean + 0.5 * (real - mean))


@pytest.mark.parametrize(("value", "shift"), [(0.0, -2), (0.39, -1), (0.99, 2)])
def test_translation_moves_by_whole_pixels_and_leaves_0_behind(value: float, shift: int):
    moved = augment(images(), ["translation"], fixed(value, 0.5))
    expected = images().roll(shift, 2)
    rows = slice(0, shift) if shift > 0 else slice(16 + shift, 16)
    expected[:, :, rows] = 0
    torch.testing.assert_close(moved, expected)
    sideways = augment(images(), ["translation"], fixed(0.5, value))
    torch.testing.assert_close(sideways, augment(images().mT, ["translation"], fixed(value, 0.5)).mT)


@pytest.mark.parametrize("side", [16, 17])
def test_cutout_blanks_a_square_of_half_the_side(side: int):
    square = int(side / 2 + 0.5)
    cut = augment(torch.ones(1, 1, side, side), ["cutout"], fixed(0.5, 0.5))
    assert (cut == 0).sum() == square**2
    assert cut[0, 0, side // 2, side // 2] == 0 and cut[0, 0, 0, 0] == 1
    corner = augment(torch.ones(1, 1, side, side), ["cutout"], fixed(0.0, 0.0))
    assert (corner == 0).sum() == (square - square // 2) ** 2 and corner[0, 0, 0, 0] == 0


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_each_image_has_numbers_of_its_own(name: str):
    same = images(1).expand(8, -1, -1, -1)
    seen = augment(same, [name], drawing())
    assert len(torch.unique(seen.flatten(1), dim=0)) > 4
    torch.testing.assert_close(seen, augment(same, [name], drawing()), rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_gradients_are_those_of_finite_differences(name: str):
    real = images(2, 3, 6).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: augment(x, [name], drawing()), real)
    (gradient,) = torch.autograd.grad(augment(real, [name], drawing()).square().sum(), real)
    assert all(one.abs().sum() > 0 for one in gradient)
