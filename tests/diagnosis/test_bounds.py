"""What a latent could carry at least: known answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from plants import codec
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from hfgen.diagnosis.bounds import bound
from hfgen.errors import UserError
from hfgen.images import to_uint8

SIDE, PATCH, NUMBERS = 48, 8, 4


class Patches(nn.Module):
    """Each patch of 8 x 8 pixels has 4 numbers: a linear autoencoder with orthonormal rows."""

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, object] = {}
        drawn = torch.randn(3 * PATCH**2, NUMBERS, generator=torch.Generator().manual_seed(0))
        self.kernel = nn.Parameter(torch.linalg.qr(drawn)[0].T.reshape(NUMBERS, 3, PATCH, PATCH), False)

    def encode(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latents=conv2d(images, self.kernel, stride=PATCH))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=conv_transpose2d(latents, self.kernel, stride=PATCH))

    def draw(self, count: int, seed: int) -> Tensor:
        """uint8 images that 4 numbers a patch say all of."""
        shape = count, NUMBERS, SIDE // PATCH, SIDE // PATCH
        return to_uint8(self.decode(torch.randn(shape, generator=torch.Generator().manual_seed(seed))).sample)


def test_a_grid_of_more_numbers_than_images_is_bound_by_its_patches():
    network = Patches()
    training, images = network.draw(60, 1), network.draw(12, 2)
    found = bound(codec(network, factor=PATCH, side=SIDE, latent_channels=NUMBERS), training, images, 0)
    assert found.what == "4 principal components in each patch of 8 x 8 pixels"
    # Up to rounding.
    assert (found.images.float() - images.float()).square().mean() < 1
    mixed = images.flip(0).roll(4, 3)
    shifted = bound(codec(network, factor=PATCH, side=SIDE, latent_channels=NUMBERS), training, mixed, 0).images
    assert (shifted.float() - mixed.float()).square().mean() > 100


def test_a_latent_at_one_place_has_no_patches():
    class Whole(Patches):
        def encode(self, images: Tensor) -> SimpleNamespace:
            return SimpleNamespace(latents=super().encode(images).latents.flatten(1)[:, :, None, None])

    network = Whole()
    with pytest.raises(UserError, match="144 numbers are too many for 60 training images"):
        bound(codec(network), network.draw(60, 1), network.draw(12, 2), 0)
