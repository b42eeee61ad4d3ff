"""What a latent's numbers and bits could carry at least: bounds that hold without training a network."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from hfgen.autoencoders import Autoencoder
from hfgen.diagnosis.interventions import inputs_of
from hfgen.images import to_float, to_uint8
from hfgen.metrics import check_components, kl_bits, linear_reconstructions
from hfgen.seeds import derive_seed

_IMAGES, _MORE, _MOST = 256, 32, 256
# To find the components of patches by, and of whole images.
_PATCHES, _MOST_VALUES = 2**15, 2**27
# Of fewer pixels a number a linear map of patches is nearly lossless, and a good network needn't reach it.
_FEWEST_VALUES = 8


class Bound(NamedTuple):
    """`images`: uint8, what so many numbers and bits make of the held-out ones at least; `what`: in words."""

    images: Tensor
    what: str


@torch.no_grad()
def bound(network: Autoencoder, training: Tensor, images: Tensor, seed: int) -> Bound:
    """Of uint8 images (N, C, R, R), by uint8 training images.

    Of a latent without noise, as many principal components. Of codes, and of posteriors with noise, what a Gaussian
    source of the same covariance has at the same number of bits, in as many components: no source of this covariance
    needs more bits. A grid of more numbers than whole images have components for is bound by its patches: each place
    has the numbers and the bits for the pixels below it alone, which is less than it may do. Of a rate, whichever of
    both is nearer to the images counts.

    Raises:
        UserError: too few training images for so many numbers.
    """
    latents = network.encode(inputs_of(network, images[:_IMAGES]))
    numbers = latents.mean[0].numel()
    if network.traits.quantised:
        bits = _bits_of_codes(network.codes(latents.mean))
    elif latents.log_variance is not None:
        bits = float(kl_bits(latents.mean.cpu(), latents.log_variance.cpu()).mean())
    else:
        bits = math.inf
    side = _patch(latents.mean, images)
    if side is None or (numbers <= _MOST and 2 * numbers <= len(training)):
        return _of_whole(training, images, numbers, bits, seed)
    found = _of_patches(training, images, side, numbers, bits, seed)
    if bits > _MORE * numbers or training.numel() > _MOST_VALUES:
        return found
    # Few bits take few components, however many numbers they are in.
    return min(found, _of_whole(training, images, numbers, bits, seed), key=lambda one: _error(one.images, images))


def _error(made: Tensor, images: Tensor) -> float:
    return float((made.cpu().float() - images.cpu().float()).square().mean())


def _of_whole(training: Tensor, images: Tensor, numbers: int, bits: float, seed: int) -> Bound:
    if bits > _MORE * numbers:
        check_components(training, numbers)
        return Bound(linear_reconstructions(training, images, numbers, seed), f"{numbers} principal components")
    what = f"{bits:.0f} bits of a Gaussian source like the data (its rate-distortion bound)"
    return Bound(at_rate(training, images, bits, numbers, seed), what)


def _patch(latents: Tensor, images: Tensor) -> int | None:
    """The side of the pixels below a place of latents (N, c, h, w).

    None where there is but one place, they overlap, or it has more than an eighth as many numbers as they have values.
    """
    if latents.ndim != 4 or latents.shape[2] != latents.shape[3] or latents.shape[2] < 2:
        return None
    side, left = divmod(images.shape[-1], latents.shape[2])
    return None if left or images.shape[1] * side**2 < _FEWEST_VALUES * latents.shape[1] else side


def _of_patches(training: Tensor, images: Tensor, side: int, numbers: int, bits: float, seed: int) -> Bound:
    """The bound of each patch (C, side, side) by itself, put together again."""
    known, wanted = (pixel_unshuffle(part.cpu(), side).permute(0, 2, 3, 1) for part in (training, images))
    places = wanted.shape[1] * wanted.shape[2]
    patches = known.reshape(-1, images.shape[1], side, side)
    generator = torch.Generator().manual_seed(derive_seed("patches", seed))
    picks = torch.randperm(len(patches), generator=generator)[:_PATCHES]
    shape = -1, *patches.shape[1:]
    found = _of_whole(patches[picks], wanted.reshape(shape), numbers // places, bits / places, seed)
    made = pixel_shuffle(found.images.reshape(wanted.shape).permute(0, 3, 1, 2), side)
    return Bound(made, f"{found.what} in each patch of {side} x {side} pixels")


def _bits_of_codes(codes: Tensor) -> float:
    """Bits of an image's codes (N, L) by their frequencies, which a code of their own reaches."""
    shares = torch.bincount(codes.flatten().cpu()).double() / codes.numel()
    return -float((shares * shares.clamp_min(1e-12).log2()).sum()) * codes.shape[1]


def at_rate(training: Tensor, images: Tensor, bits: float, numbers: int, seed: int) -> Tensor:
    """Images with the error and the power that a Gaussian source has at `bits` an image; uint8 (N, C, R, R).

    Component i of variance v keeps v - min(v, t), t such that the sum of .5 log2(v / t) over v > t is `bits` (Cover &
    Thomas, 10.3.3). As in the forward test channel, it is shrunk by 1 - t / v, and noise of variance t (1 - t / v) is
    added.
    """
    pixels = to_float(training.cpu()).flatten(1)
    # With fewer components than so many bits would take, it is a bound all the more.
    wanted = max(1, min(numbers, int(2 * bits) + _MORE, _MOST, pixels.shape[1], len(pixels) // 2))
    centre = pixels.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed("rate", seed))
        _, sizes, components = torch.pca_lowrank(pixels, wanted, niter=2)
    variances = sizes.double().square() / max(1, len(pixels) - 1)
    level = water_level(variances, bits)
    kept = (1 - level / variances.clamp_min(1e-12)).clamp_min(0)
    scores = (to_float(images.cpu()).flatten(1) - centre) @ components
    noise = torch.randn(scores.shape, generator=torch.Generator().manual_seed(derive_seed("rate noise", seed)))
    made = scores * kept.float() + noise * (level * kept).sqrt().float()
    return to_uint8((made @ components.T + centre).reshape(images.shape))


def water_level(variances: Tensor, bits: float) -> float:
    """The distortion a component at which variances (K,) cost so many bits, by bisection of its logarithm."""
    logs = variances.clamp_min(1e-12).log2()
    low, high = float(logs.min()) - 2 * bits - 1, float(logs.max())
    for _ in range(100):
        middle = (low + high) / 2
        spent = float((0.5 * (logs - middle)).clamp_min(0).sum())
        low, high = (middle, high) if spent > bits else (low, middle)
    return 2**high
