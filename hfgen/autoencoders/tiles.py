"""Large images in tiles, as diffusers does it, and what the seams between the tiles cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.autoencoders.adapter import Autoencoder
from hfgen.errors import SettingsError

_OVERLAP = 4  # Neighbours share one part in so many.
_NONE = 2**31  # Farther than any pixel.


def tile(codec: Autoencoder, side: int) -> None:
    """Let a network encode and decode tiles of `side` pixels that overlap by a quarter, and one image at a time.

    Raises:
        SettingsError: its class has no tiling, or its factor doesn't divide the tiles and their overlap.
    """
    network, name, step = codec.network, type(codec.network).__name__, _OVERLAP * codec.factor
    if not hasattr(network, "use_tiling"):
        raise SettingsError(f"tile: diffusers has no tiling for {name}; leave it out, or take a smaller resolution")
    if side < step or side % step:
        near = max(1, round(side / step)) * step
        raise SettingsError(f"tile: {side} pixels; tiles of this model have a multiple of {step}, such as {near}")
    _set(codec, step)
    try:
        _check(codec, step)
    except SettingsError:
        network.disable_tiling()
        raise
    _set(codec, side)
    if hasattr(network, "use_slicing"):
        network.enable_slicing()
    codec.tile = side


def _set(codec: Autoencoder, side: int) -> None:
    network = codec.network
    network.enable_tiling()
    # The classes differ in what `enable_tiling` takes, and agree in what they keep.
    values = {
        "tile_sample_min": side,
        "tile_sample_stride": side - side // _OVERLAP,
        "tile_latent_min": side // codec.factor,
        "tile_overlap_factor": 1 / _OVERLAP,
    }
    for attribute in [key for key in vars(network) if key.startswith(tuple(values)) and "frames" not in key]:
        setattr(network, attribute, next(value for start, value in values.items() if attribute.startswith(start)))


@torch.no_grad()
def _check(codec: Autoencoder, side: int) -> None:
    """Refuse a class whose tiling, on the smallest tiles that there are, fails or does nothing.

    Raises:
        SettingsError: it does.
    """
    import diffusers

    remedy = "leave it out, or take a smaller resolution"
    what = f"tile: the tiling of {type(codec.network).__name__} in diffusers {diffusers.__version__}"
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, codec.channels, 2 * side, 2 * side, generator=generator)
    with untiled(codec):
        whole = codec.reconstruct(images)
    try:
        tiled = codec.reconstruct(images)
    except Exception as error:  # Each class computes with its own assumptions.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise SettingsError(f"{what} fails ({reason}); {remedy}") from None
    if tiled.shape != whole.shape:
        sides = " x ".join(map(str, tiled.shape[2:]))
        raise SettingsError(f"{what} gives {sides} pixels for {2 * side} x {2 * side}; {remedy}")
    if torch.equal(tiled, whole):
        raise SettingsError(f"{what} does nothing; {remedy}")


@contextlib.contextmanager
def untiled(codec: Autoencoder) -> Iterator[None]:
    """Within, images go through the network whole."""
    was = getattr(codec.network, "use_tiling", False)
    if was:
        codec.network.disable_tiling()
    try:
        yield
    finally:
        if was:
            codec.network.use_tiling = True


class Seam(NamedTuple):
    """Root mean square of what tiling changes, in levels of 255, of the pixels within a range of distances.

    Attributes:
        nearest: To the nearest line on which a tile begins, in pixels; the first that counts.
        farthest: The last one.
        rmse: Of these pixels.
        pixels: How many there are in an image.
    """

    nearest: int
    farthest: int
    rmse: float
    pixels: int


def seam_errors(tiled: Tensor, whole: Tensor, side: int) -> list[Seam]:
    """What tiles of `side` pixels change in images (N, C, H, W) in [-1, 1], by the distance from where tiles begin.

    The ranges double: 0, 1 to 2, 3 to 6, ... An error that is largest near 0 is a seam; one that isn't comes from
    what a tile can't see of the image.
    """
    errors = ((tiled - whole) * 127.5).double().square().mean((0, 1)).cpu()
    height, width = errors.shape
    distances = torch.minimum(_distances(height, side)[:, None], _distances(width, side)[None])
    found, nearest = [], 0
    if distances.min() == _NONE:
        return []
    while nearest <= distances.max():
        farthest = 2 * nearest
        inside = (distances >= nearest) & (distances <= farthest)
        if inside.any():
            found.append(Seam(nearest, farthest, float(errors[inside].mean().sqrt()), int(inside.sum())))
        nearest = farthest + 1
    return found


def _distances(size: int, side: int) -> Tensor:
    """Of each pixel of a row to the nearest line where a tile but the first begins; `_NONE` where there is none."""
    stride = side - side // _OVERLAP
    lines = torch.arange(stride, size, stride)
    if not len(lines):
        return torch.full((size,), _NONE)
    return (torch.arange(size)[:, None] - lines).abs().amin(1)


def measure_seams(codec: Autoencoder, images: Tensor) -> dict[str, Any]:
    """What tiling changes in the reconstructions of images (N, C, H, W) in [-1, 1], as JSON values.

    The images go through the network twice, in tiles and whole. `tile` and `rmse` (of all pixels, in levels of 255),
    and `by_distance`: see `seam_errors`.
    """
    if codec.tile is None:
        raise ValueError("tile: the network isn't tiled; call hfgen.autoencoders.tiles.tile first")
    with torch.no_grad():
        tiled = codec.reconstruct(images)
        with untiled(codec):
            whole = codec.reconstruct(images)
    rmse = float(((tiled - whole) * 127.5).double().square().mean().sqrt())
    by_distance = [seam._asdict() for seam in seam_errors(tiled, whole, codec.tile)]
    return {"tile": codec.tile, "images": len(images), "rmse": rmse, "by_distance": by_distance}
