"""Whether outputs lie where the originals do: turned, mirrored, shifted, stretched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from hfgen.diagnosis.gates.context import Context, brightness, removed, squared_error
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 0.4, 0.2
_LEAST_SHARE, _RELATED = 0.2, 0.5
_SCALES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.7)
_STEPS = (4, 6)
_SIDE = 64
_CLEARLY = 0.9
# Whether transposed first, quarter turns, and axes that are mirrored after them.
_TURNED: dict[str, list[tuple[bool, int, tuple[int, ...]]]] = {
    "flipped": [(False, 0, (-1,)), (False, 0, (-2,))],
    "rotated": [(False, 1, ()), (False, 2, ()), (False, 3, ())],
    "transposed": [(True, 0, ()), (True, 2, ())],
}


def orientation(context: Context) -> Iterator[Finding]:
    """The eight ways to lay a square, tried."""
    if not context.reconstructs:
        return
    now, best, name, chosen = context.errors, context.errors, "", None
    for kind, ways in _TURNED.items():
        for way in ways:
            errors = squared_error(_laid(context.outputs, way), context.inputs)
            if errors.mean() < best.mean():
                best, name, chosen = errors, kind, way
    if chosen is None:
        return
    share = removed(now, best, context.seed)
    found = check(
        name,
        share,
        "share of the squared error that turning the outputs back removes",
        warning=0.15,
        fault=0.3,
        text=f"Reconstructions are {name}.",
        remedy="check the order of axes where arrays become images (height before width), and augmentation that is "
        "applied to one side of the pair only",
        share=share.value,
        of="squared error",
    )
    if found.severity == "fault":
        context.corrections.append(partial(_laid, way=chosen))
    yield found


def _laid(images: Tensor, way: tuple[bool, int, tuple[int, ...]]) -> Tensor:
    """Images transposed or not, turned by quarters, and mirrored along axes."""
    transposed, turns, flips = way
    return (images.mT if transposed else images).rot90(turns, (-2, -1)).flip(flips)


def placement(context: Context) -> Iterator[Finding]:
    """One affine map of the plane for all images, by least squares (Lucas & Kanade 1981), from coarse to fine.

    A shift of half a pixel is what another rule for the corners of a resized image gives.
    """
    if not context.reconstructs or context.broken(*_TURNED):
        return
    made, real = (_small(brightness(part)) for part in (context.outputs, context.inputs))
    scale = context.inputs.shape[-1] / real.shape[-1]
    parameters = _start(made, real)
    for size, steps in zip((max(1, real.shape[-1] // 12), 0), _STEPS, strict=True):
        pair = _blurred(made, size), _blurred(real, size)
        for _ in range(steps):
            gradient, curvature = _normal(*pair, parameters)
            parameters = parameters - _solve(curvature.mean(0), gradient.mean(0))
        if not parameters.isfinite().all() or float(parameters.abs().max()) > real.shape[-1]:
            return
    inner = max(1, real.shape[-1] // 8)
    core = (slice(None), slice(inner, -inner), slice(inner, -inner))
    placed = _warped(made, parameters)
    if float(torch.corrcoef(torch.stack([placed[core].flatten(), real[core].flatten()]))[0, 1]) < _RELATED:
        return  # Of a negative, say, another place is no better.
    before, after = (((image - real) ** 2)[core].flatten(1).mean(1) for image in (made, placed))
    share = removed(before.clamp_min(1e-12), after, context.seed)
    gradient, curvature = _normal(made, real, parameters)
    side = real.shape[-1]

    def statistic(means: Tensor) -> Tensor:
        gradients, curvatures = means.split([6, 36], -1)
        found = parameters - _solve(curvatures.unflatten(-1, (6, 6)), gradients)
        return (_displacements(found, side).square().sum(-1, keepdim=True).sqrt()) * scale

    (moved,) = bootstrap_of_means(torch.cat([gradient, curvature.flatten(1)], 1), statistic, seed=context.seed)
    parts = _displacements(parameters, side).tolist()
    # Squashed along one axis alone, the mean scale moves as much as their difference.
    parts[1] *= 1.5
    name = _KINDS[max(range(len(parts)), key=lambda i: parts[i])]
    found = check(
        name,
        moved,
        "how far the reconstructions' content lies from the originals', root mean square, in pixels",
        warning=_WARNING,
        fault=_FAULT,
        text=_in_words(name, parameters, scale),
        remedy=_REMEDIES[name],
        share=share.value,
        of="squared error",
        telling=share.low > _LEAST_SHARE,
    )
    if found.severity == "fault":
        context.place = partial(_placed, parameters=parameters, scale=scale)
    yield found


def _placed(images: Tensor, parameters: Tensor, scale: float) -> Tensor:
    """Images (N, C, R, R) through the map, which is in units of `scale` pixels."""
    shifts = torch.tensor([1, 1, scale, 1, 1, scale], dtype=parameters.dtype)
    moved = _warped(images.double().flatten(0, 1), parameters * shifts)
    return moved.unflatten(0, images.shape[:2]).float()


_KINDS = ("shifted", "stretched", "scaled", "tilted")
MISPLACED = (*_TURNED, *_KINDS)
"""Faults by which outputs and originals don't lie on each other."""

_REMEDIES = {
    "shifted": "check paddings and strides of the decoder, and align_corners where images are resized: each shifts by "
    "half a pixel",
    "stretched": "give images that are as wide as high: pad or crop them instead of squashing them, in the same way in "
    "training and here",
    "scaled": "resize and crop in the same way in training and here",
    "tilted": "check augmentation that is applied to one side of the pair only",
}


def _in_words(name: str, parameters: Tensor, scale: float) -> str:
    a, b, x, c, d, y = parameters.tolist()
    if name == "shifted":
        return f"Reconstructions are shifted by {scale * x:+.2f} pixels across and {scale * y:+.2f} down."
    if name in ("stretched", "scaled"):
        return f"Reconstructions are {1 + a:.2f} times as wide and {1 + d:.2f} times as high as the originals."
    return f"Reconstructions are turned by about {math.degrees((c - b) / 2):+.1f} degrees."


def _displacements(parameters: Tensor, side: int) -> Tensor:
    """(..., 4): of the shift, of unequal and equal scales, and of the rest, root mean square in pixels."""
    a, b, x, c, d, y = parameters.unbind(-1)
    arm = side / math.sqrt(12)
    pieces = (
        torch.hypot(x, y),
        arm * ((a - d) / 2).abs() * 2**0.5,
        arm * ((a + d) / 2).abs() * 2**0.5,
        arm * torch.hypot(b, c),
    )
    return torch.stack(pieces, -1)


def _small(values: Tensor) -> Tensor:
    """Down to about 64 pixels: what lies further out of place is found there too."""
    factor = max(1, values.shape[-1] // _SIDE)
    return avg_pool2d(values[:, None], factor)[:, 0]


def _blurred(values: Tensor, radius: int) -> Tensor:
    if not radius:
        return values
    framed = pad(values[:, None], [radius] * 4, mode="replicate")
    return avg_pool2d(framed, 2 * radius + 1, stride=1)[:, 0]


def _start(made: Tensor, real: Tensor) -> Tensor:
    """Where to begin: the best of some scales and of the shift that correlates best, if it is clearly better."""
    coarse = [interpolate(part[:, None], size=(16, 16), mode="area")[:, 0] for part in (made, real)]
    unit = made.shape[-1] / 16
    tried = [torch.tensor([w - 1, 0.0, 0.0, 0.0, h - 1, 0.0]) for w in _SCALES for h in _SCALES]
    spectra = [torch.fft.rfft2(part - part.mean((1, 2), keepdim=True)) for part in coarse]
    peak = int(torch.fft.irfft2((spectra[0] * spectra[1].conj()).sum(0), s=(16, 16)).argmax())
    down, across = ((place + 8) % 16 - 8 for place in divmod(peak, 16))
    tried.append(torch.tensor([0.0, 0.0, float(across), 0.0, 0.0, float(down)]))
    costs = [float((_warped(coarse[0], each.double()) - coarse[1]).square().mean()) for each in tried]
    none = torch.zeros(6, dtype=torch.float64)
    now = float((coarse[0] - coarse[1]).square().mean())
    least = min(range(len(tried)), key=lambda i: costs[i])
    if costs[least] > _CLEARLY * now:
        return none
    return tried[least].double() * torch.tensor([1, 1, unit, 1, 1, unit], dtype=torch.float64)


def _places(side: int) -> tuple[Tensor, Tensor]:
    """Coordinates of the pixels (R, R) from the centre, across and down."""
    line = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return line.expand(side, side), line[:, None].expand(side, side)


def _warped(images: Tensor, parameters: Tensor) -> Tensor:
    """Images (N, R, R) read at u + (a ux + b uy + x, c ux + d uy + y)."""
    side = images.shape[-1]
    ux, uy = _places(side)
    a, b, x, c, d, y = parameters
    grid = torch.stack([ux + a * ux + b * uy + x, uy + c * ux + d * uy + y], -1) * (2 / side)
    return grid_sample(
        images[:, None], grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False
    )[:, 0]


def _normal(made: Tensor, real: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (N, 6) and Gauss-Newton curvatures (N, 6, 6) of each image's squared error."""
    side, margin = made.shape[-1], max(1, made.shape[-1] // 16)
    moved = _warped(made, parameters)
    (down, across), (ux, uy) = torch.gradient(moved, dim=(1, 2)), _places(side)
    slopes = torch.stack([across * ux, across * uy, across, down * ux, down * uy, down], 1)
    core = (..., slice(margin, -margin), slice(margin, -margin))
    slopes, error = slopes[core].flatten(2), (moved - real)[core].flatten(1)
    places = slopes.shape[-1]
    return torch.einsum("nkp,np->nk", slopes, error) / places, slopes @ slopes.mT / places


def _solve(curvature: Tensor, gradient: Tensor) -> Tensor:
    ridge = 1e-6 * curvature.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] + 1e-12
    return torch.linalg.solve(curvature + ridge * torch.eye(6, dtype=curvature.dtype), gradient[..., None])[..., 0]
