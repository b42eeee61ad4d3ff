"""What a latent could carry at least: known answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from plants import codec
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from hfgen.data import draw
from hfgen.diagnosis.bounds import _of_patches, bound
from hfgen.errors import UserError
from hfgen.families.vqvae import VQVAE
from hfgen.images import to_uint8
from hfgen.pipelines import VQVAEPipeline
from hfgen.pipelines.autoencoder import codec_of

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


def test_patches_of_few_pixels_a_number_bound_nothing():
    class Fine(Patches):
        def encode(self, images: Tensor) -> SimpleNamespace:
            return SimpleNamespace(latents=images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))

    network = Fine()
    with pytest.raises(UserError, match="1728 numbers are too many for 60 training images"):
        bound(codec(network), network.draw(60, 1), network.draw(12, 2), 0)


def test_codes_of_many_channels_and_few_bits_are_bound_as_whole_images():
    """Of 16 codes of 32 numbers, which are 512, no more than 128 bits."""
    torch.manual_seed(0)
    family = VQVAE(code_channels=32, width=16, max_width=16, prior_width=32, prior_layers=1, prior_heads=2)
    networks = family.build(32, 1)
    network = codec_of(VQVAEPipeline(networks["vqvae"].eval(), networks["prior"].eval()))
    assert network is not None
    training, images = (draw("glyphs", split, 0, count, 32).images for split, count in (("train", 600), ("test", 50)))
    found = bound(network, training, images, 0)
    bits = float(found.what.split()[0])
    assert bits <= 128 and found.what.endswith("(its rate-distortion bound)")
    patches = _of_patches(training, images, 8, 512, bits, 0).images
    errors = [(made.float() - images.float()).square().mean() for made in (found.images, patches)]
    assert errors[0] < 0.8 * errors[1]
