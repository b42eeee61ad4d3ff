"""What a network takes and returns, found by running it on as little as possible; no class is known by its name."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.autoencoders import network_calls
from hfgen.errors import ModelError

# Not square, so that a fixed size shows; the larger ones for networks that can't take the smaller.
_PROBES = ((32, 64), (64, 128), (256, 512))
_CHANNELS = (1, 3, 4)


class Traits(NamedTuple):
    """What an autoencoder takes and returns.

    Attributes:
        channels: Of the network's images: 1 (grey), 3 (RGB) or 4 (RGB and alpha).
        frames: Whether it takes videos, here of one frame.
        unit_range: Whether its images are in [0, 1]; else in [-1, 1].
        factor: Side of an image over that of its latent.
        side: The only side that its images may have, in pixels; None: every one that `factor` divides.
        latent_channels: Of the latent.
        gaussian: Whether the encoder gives a variance.
        quantised: Whether a codebook stands between encoder and decoder.
        draws: Whether the decoder draws noise.
        batches: Whether it takes several images at once; else one after another.
    """

    channels: int
    frames: bool
    unit_range: bool
    factor: int
    side: int | None
    latent_channels: int
    gaussian: bool
    quantised: bool
    draws: bool
    batches: bool


@torch.no_grad()
def find_traits(network: Any) -> Traits:
    """Run a network until images come back with their own shape.

    Raises:
        ModelError: they don't, in no way that it can be called; it says what failed.
    """
    name = type(network).__name__
    refused = f"{name} can't be used as an autoencoder of images"
    if not network_calls.class_fits(type(network)):
        raise ModelError(f"model: {refused}: it has no encode and decode")
    failures: dict[bool, str] = {}
    for frames in (False, True):
        for channels in _candidates(network):
            for shape in _PROBES:
                what = f"{'one frame' if frames else 'images'} of {channels} x {shape[0]} x {shape[1]}"
                try:
                    return _traits(network, frames, channels, shape)
                except _OtherShape as error:
                    raise ModelError(f"model: {refused}: {error}") from None
                except (
                    Exception
                ) as error:  # A network that is given another shape than it takes raises almost anything.
                    failures.setdefault(frames, f"{what}: {_line(error)}")
    raise ModelError(f"model: {refused}: {'; '.join(failures.values())}")


@torch.no_grad()
def traits_at(network: Any, channels: int, side: int) -> Traits:
    """Those of a network that is known to take images of one size and kind, and run on nothing else.

    Raises:
        ModelError: they don't come back with their shape; it says what failed.
    """
    refused = f"model: {type(network).__name__} can't be used on images of {channels} x {side} x {side}"
    try:
        return _traits(network, False, channels, (side, side))._replace(side=side)
    except ModelError:
        raise
    except Exception as error:  # As above.
        raise ModelError(f"{refused}: {_line(error)}") from error


class _OtherShape(Exception):
    """The network runs, and doesn't give back what it was given."""


def _candidates(network: Any) -> list[int]:
    """Numbers of channels that its images may have, likely ones first."""
    names = ("out_channels", "in_channels", "input_channels", "num_channels")
    named = [network_calls.setting(network, name) for name in names]
    first = named[0]
    if first is not None and first not in _CHANNELS:
        raise ModelError(f"model: out_channels: {first!r} channels; hfgen takes 1 (grey), 3 (RGB) or 4 (with alpha)")
    return list(dict.fromkeys(count for count in named if count in _CHANNELS)) or [3, 1, 4]


def _traits(network: Any, frames: bool, channels: int, shape: tuple[int, int]) -> Traits:
    encoded, decoded = _round_trip(network, frames, channels, shape)
    factor, side = _sizes(network, frames, channels, shape, encoded.mean, decoded)
    _, latent_channels, *_ = encoded.mean.shape
    return Traits(
        channels=channels,
        frames=frames,
        # What normalises by the statistics of ImageNet takes what they are of.
        unit_range="encoder_norm_mean" in getattr(network, "config", {}),
        factor=factor,
        side=side,
        latent_channels=latent_channels,
        gaussian=encoded.log_variance is not None,
        quantised=network_calls.takes_quantiser(network),
        draws=_draws(network, frames, encoded.mean),
        batches=_batches(network, frames, channels, tuple(decoded.shape[-2:])),
    )


def _round_trip(
    network: Any, frames: bool, channels: int, shape: tuple[int, ...], count: int = 1
) -> tuple[network_calls.Encoded, Tensor]:
    images = torch.zeros(count, channels, *([1] if frames else []), *shape)
    encoded = network_calls.encode(network, images)
    return encoded, network_calls.decode(network, encoded.mean, frames=frames, noise_seed=0).images


def _sizes(
    network: Any, frames: bool, channels: int, shape: tuple[int, int], latents: Tensor, decoded: Tensor
) -> tuple[int, int | None]:
    """The factor, and the only side, if there is one."""
    (height, width), back = latents.shape[2:], tuple(decoded.shape[-2:])
    expected = (1, channels, *([1] if frames else []))
    if tuple(decoded.shape[:-2]) != expected:
        raise _OtherShape(f"{expected} come back as {tuple(decoded.shape[:-2])}, before height and width")
    factor, follows = max(1, back[0] // height), latents.shape[2:] != latents.shape[:1:-1]
    if (height * factor, width * factor) != back:
        raise _OtherShape(f"{shape[0]} x {shape[1]} pixels come back as {back[0]} x {back[1]}")
    if back == shape:
        return factor, None
    # Another shape, whose latent it may be: the network cuts what it is given, or resizes it to a fixed size.
    for given in (back,) if follows else (back, (2 * back[0], 4 * back[1])):
        _, again = _round_trip(network, frames, channels, given)
        if tuple(again.shape[-2:]) != back:
            raise _OtherShape(f"{given[0]} x {given[1]} pixels come back as {again.shape[-2]} x {again.shape[-1]}")
    return factor, None if follows else back[0]


def _batches(network: Any, frames: bool, channels: int, shape: tuple[int, ...]) -> bool:
    try:
        return len(_round_trip(network, frames, channels, shape, count=2)[1]) == 2
    except Exception:  # As above.
        return False


def _draws(network: Any, frames: bool, latents: Tensor) -> bool:
    first, second = (network_calls.decode(network, latents, frames=frames, noise_seed=seed).images for seed in (0, 1))
    return not torch.equal(first.nan_to_num(), second.nan_to_num())


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}".rstrip(": ")
