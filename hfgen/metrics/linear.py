"""What the best linear autoencoder of as many numbers does: a floor below which an autoencoder is under-trained."""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8
from hfgen.seeds import derive_seed

MOST_COMPONENTS = 1024
_MOST_VALUES = 2**27
_MORE = 16


@torch.no_grad()
def linear_reconstructions(training: Tensor, images: Tensor, numbers: int, seed: int) -> Tensor:
    """Reconstructions from the leading principal components of `training` (Baldi & Hornik 1989).

    Args:
        training: uint8 (M, C, H, W).
        images: uint8 (N, C, H, W).
        numbers: How many components; more than `MOST_COMPONENTS`, images or pixels become so many.
        seed: Of the random projection that finds them (Halko et al., 0909.4061).

    Returns:
        uint8 (N, C, H, W), on the CPU.
    """
    pixels = to_float(training.cpu()).flatten(1)
    centre = pixels.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed("components", seed))
        # More than are asked for: the last ones of a random projection are inexact.
        wanted = min(numbers, MOST_COMPONENTS, *pixels.shape)
        _, _, found = torch.pca_lowrank(pixels, min(wanted + _MORE, *pixels.shape), niter=4)
    components = found[:, :wanted]
    projected = (to_float(images.cpu()).flatten(1) - centre) @ components @ components.T + centre
    return to_uint8(projected.reshape(images.shape))


def check_components(training: Tensor, numbers: int) -> None:
    """Refuse what principal components can't bound.

    Raises:
        UserError: fewer than two training images a number, more than `MOST_COMPONENTS`, or too many pixels in all.
    """
    if numbers > MOST_COMPONENTS or 2 * numbers > len(training):
        raise UserError(f"components: {numbers} numbers are too many for {len(training)} training images")
    if training.numel() > _MOST_VALUES:
        raise UserError(f"components: {len(training)} training images of this size take too much memory")
