"""Ranges, contrast and colour: what the network is given and gives, against what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context, brightness, removed, squared_error
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 0.3, 0.1
_VISIBLE, _GLARING = 2.0, 10.0
_OF_ERROR = "squared error"
_GRID = 8
_EXPLAINED, _SIMPLE = 0.5, 0.85
_LINEAR = 0.01
_BEYOND, _WITHIN = 1.05, 0.9
_LEVELS = 127.5
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_SWAPPED = "the order BGR"

Change = Callable[[Tensor], Tensor]


def given_range(context: Context) -> Iterator[Finding]:
    """Whether the network takes images of another range, order or scale than [-1, 1] in RGB: tried, one by one."""
    if context.network is None or context.broken("not_repeatable", "few_levels"):
        return  # Of rounded outputs, a larger scale has more levels.
    real = context.inputs[: len(context.few)]
    now = context.errors[: len(context.few)]
    if _is_linear(context, real):
        return  # Scaled in and back, its images are the same.
    best, name = now, ""
    for kind, forward, back in _conventions(real.shape[1]):
        outputs = context.passed(forward(real))
        for change in (back, _same):
            errors = squared_error(change(outputs), real)
            if errors.mean() < best.mean():
                best, name = errors, kind
    if not name or best.mean() >= _stretched(context.outputs[: len(real)], real).mean():
        return  # What a factor and a shift of the outputs fix as well is theirs; see `levels`.
    share = removed(now, best, context.seed)
    yield check(
        "swapped_channels" if name == _SWAPPED else "range",
        share,
        "share of the squared error that goes away when images are given to the network in another convention",
        warning=_FAULT,
        fault=0.5,
        text=f"The network takes and gives images in {name}, and was given RGB in [-1, 1].",
        remedy="train it on images in [-1, 1], or put the conversion into its first and last layer: 0.5 x + 0.5 before "
        "the first and 2 y - 1 after the last one where it was trained on [0, 1]",
        share=share.value,
        of=_OF_ERROR,
    )


def _stretched(outputs: Tensor, real: Tensor) -> Tensor:
    """Squared errors (N,) after the best factor and shift of all outputs."""
    made, wanted = outputs.double(), real.double()
    away = made - made.mean()
    slope = (away * wanted).mean() / away.square().mean().clamp_min(1e-12)
    return squared_error(slope * away + wanted.mean(), wanted)


def _is_linear(context: Context, real: Tensor) -> bool:
    whole, half, none, negative = (context.passed(factor * real) for factor in (1.0, 0.5, 0.0, -1.0))
    bent = (half - (whole + none) / 2).abs().mean() + (whole + negative - 2 * none).abs().mean()
    return float(bent) < _LINEAR * float(whole.std())


def _same(images: Tensor) -> Tensor:
    return images


def _conventions(channels: int) -> Iterator[tuple[str, Change, Change]]:
    """What people feed networks with: a name, how to make it of RGB in [-1, 1], and the way back."""
    yield "[0, 1]", lambda x: (x + 1) / 2, lambda y: 2 * y - 1
    yield "[0, 255]", lambda x: (x + 1) * _LEVELS, lambda y: y / _LEVELS - 1
    yield "[-0.5, 0.5]", lambda x: x / 2, lambda y: 2 * y
    yield "[-1, 1], black and white exchanged,", lambda x: -x, lambda y: -y
    if channels == 3:
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        yield _SWAPPED, lambda x: x.flip(1), lambda y: y.flip(1)
        yield (
            "ImageNet's mean and deviation",
            lambda x: ((x + 1) / 2 - mean) / deviation,
            lambda y: 2 * (y * deviation + mean) - 1,
        )


class _Fit(NamedTuple):
    """One way to correct outputs: `solve` maps moments to weights (..., C + 1, C)."""

    name: str
    solve: Callable[[_Moments], Tensor]


class _Moments:
    """Means over pixels of products of [r, 1] and x, for a batch of resamples."""

    def __init__(self, means: Tensor, channels: int) -> None:
        size = channels + 1
        own, cross, power, self.whole = means.split([size * size, size * channels, 1, 1], dim=-1)
        self.own, self.cross = own.unflatten(-1, (size, size)), cross.unflatten(-1, (size, channels))
        self.power, self.channels = power[..., 0], channels
        self.whole = self.whole[..., 0]

    def error(self, weights: Tensor) -> Tensor:
        """Mean squared error of [r, 1] weights against x, in the low-passed images."""
        linear = (weights * self.cross).sum((-1, -2))
        square = (weights * (self.own @ weights)).sum((-1, -2))
        return (self.power - 2 * linear + square) / self.channels

    def change(self, weights: Tensor) -> Tensor:
        """Root mean square of what the weights change, in levels of 255."""
        moved = weights - self.identity(weights)
        return ((moved * (self.own @ moved)).sum((-1, -2)).clamp_min(0) / self.channels).sqrt() * _LEVELS

    def identity(self, like: Tensor) -> Tensor:
        return torch.eye(self.channels + 1, self.channels, dtype=like.dtype).expand(like.shape)

    def full(self) -> Tensor:
        size = self.channels + 1
        ridge = 1e-9 * torch.eye(size, dtype=self.own.dtype)
        return torch.linalg.solve(self.own + ridge, self.cross)

    def restricted(self, basis: Tensor, fixed: Tensor) -> Tensor:
        """The best weights `fixed` + a combination of `basis` (K, C + 1, C)."""
        moved = self.own.unsqueeze(-3) @ basis
        gram = torch.einsum("kij,...lij->...kl", basis, moved)
        target = torch.einsum("kij,...ij->...k", basis, self.cross - self.own @ fixed)
        ridge = 1e-9 * torch.eye(len(basis), dtype=gram.dtype)
        return fixed + torch.einsum(
            "...k,kij->...ij", torch.linalg.solve(gram + ridge, target[..., None])[..., 0], basis
        )


def levels(context: Context) -> Iterator[Finding]:
    """An affine fit of the originals to what the network gives, of coarse content, whose gain is 1 in health."""
    if not context.reconstructs or context.broken("range", "swapped_channels"):
        return
    moments = _per_image(context)
    channels = context.inputs.shape[1]
    whole = _Moments(moments.mean(0), channels)
    before, after = (float(whole.error(w)) for w in (whole.identity(whole.full()), whole.full()))
    spread = float(whole.power / channels) - float((whole.cross[-1] ** 2).mean())
    if spread <= 0 or after > (1 - _EXPLAINED) * spread:
        return  # Outputs say too little of the originals for a fit to mean anything.
    fits = list(_fits(channels))
    chosen = next(
        (f for f in fits if before - float(whole.error(f.solve(whole))) >= _SIMPLE * (before - after)), fits[-1]
    )

    def statistic(means: Tensor) -> Tensor:
        resampled = _Moments(means, channels)
        weights = chosen.solve(resampled)
        gained = resampled.error(resampled.identity(weights)) - resampled.error(weights)
        return torch.stack([gained / resampled.whole, resampled.change(weights)], -1)

    share, change = bootstrap_of_means(moments, statistic, seed=context.seed)
    weights = chosen.solve(whole)
    name, text, remedy = _in_words(chosen.name, weights, context)
    # Either most of what is wrong, or plainly visible.
    glaring = change.low > _GLARING and share.low > _WARNING / 2
    found = check(
        name,
        share,
        f"share of the squared error that one affine map of all outputs removes, by {change.value:.1f} of 255 levels",
        warning=_WARNING / 2 if glaring else _WARNING,
        fault=_WARNING / 2 if glaring else _FAULT,
        text=text,
        remedy=remedy,
        share=share.value,
        of=_OF_ERROR,
        telling=change.low > _VISIBLE,
    )
    if found.severity == "fault":
        context.corrections.append(partial(_mapped, weights=weights))
    yield found


def _mapped(images: Tensor, weights: Tensor) -> Tensor:
    """Images (N, C, R, R) through [r, 1] weights, (C + 1, C)."""
    slope, offset = weights[:-1].to(images), weights[-1].to(images)
    return torch.einsum("nchw,cd->ndhw", images, slope) + offset[:, None, None]


def _per_image(context: Context) -> Tensor:
    """The moments of each image (N, K), of images averaged to 8 x 8, and the squared error at full size."""
    placed = context.place(context.correct(context.calibrated))
    made, real = (adaptive_avg_pool2d(part, _GRID).double().flatten(2) for part in (placed, context.inputs))
    made = torch.cat([made, torch.ones_like(made[:, :1])], 1)
    places = made.shape[-1]
    own, cross = made @ made.mT / places, made @ real.mT / places
    power = real.square().sum((1, 2)) / places
    whole = squared_error(context.calibrated, context.inputs).clamp_min(1e-12)
    return torch.cat([own.flatten(1), cross.flatten(1), power[:, None], whole[:, None]], 1)


def _fits(channels: int) -> Iterator[_Fit]:
    """From the simplest to the fullest."""
    eye = torch.eye(channels + 1, channels, dtype=torch.float64)
    offsets = torch.zeros(channels, channels + 1, channels, dtype=torch.float64)
    slopes = offsets.clone()
    for channel in range(channels):
        offsets[channel, -1, channel], slopes[channel, channel, channel] = 1, 1
    contrast = torch.stack([slopes.sum(0), offsets.sum(0)])
    if channels == 3:
        for order in list(permutations(range(3)))[1:]:
            swap = torch.cat([eye[list(order)], eye[3:]])
            yield _Fit("swapped_channels", lambda m, w=swap: w.expand(m.cross.shape))  # type: ignore[misc]
    yield _Fit("contrast", lambda m: m.restricted(contrast, 0 * eye))
    if channels == 3:
        grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None].expand(3, 3)
        chroma = eye - torch.cat([grey, torch.zeros(1, 3, dtype=torch.float64)])
        yield _Fit("saturation", lambda m: m.restricted(chroma[None], eye))
        yield _Fit("colour_shift", lambda m: m.restricted(offsets, eye))
        yield _Fit("colour_shift", lambda m: m.restricted(torch.cat([slopes, offsets]), 0 * eye))
    yield _Fit("colour", lambda m: m.full())


def _in_words(name: str, weights: Tensor, context: Context) -> tuple[str, str, str]:
    """The name, what it means, and the remedy."""
    slope, offset = weights[:-1], weights[-1]
    fix = "; as a last layer: x = " + " ".join(f"{value:+.2f}" for value in slope.diagonal()) + " y, "
    fix += " ".join(f"{value:+.2f}" for value in offset)
    again = f"check the conversion of images after the decoder{fix}"
    if name in ("contrast", "colour"):
        first, shift = float(slope.diagonal().mean()), float(offset.mean())
        if abs(first - 2) < 0.2 and abs(shift + 1) < 0.2:
            return "range", "The network gives images in [0, 1], and [-1, 1] is expected.", again
        if abs(first * _LEVELS - 1) < 0.2:
            return "range", "The network gives images in [0, 255], and [-1, 1] is expected.", again
        if first < 0:
            return "range", "The network gives images with black and white exchanged.", again
    words = {
        "swapped_channels": "The colour channels come out in another order.",
        "contrast": f"Outputs need a factor of {float(slope.diagonal().mean()):.2f} and a shift of "
        f"{float(offset.mean()) * _LEVELS:+.0f} levels: contrast or brightness is off.",
        "saturation": f"Colours are too {'pale' if float(slope[0, 0]) > 1 else 'strong'}.",
        "colour_shift": "Colours are shifted by "
        + ", ".join(f"{-value * _LEVELS:+.0f}" for value in offset.tolist())
        + " levels.",
        "colour": "Colours are mixed up by a linear map.",
    }
    return name, words[name], again


def clipped(context: Context) -> Iterator[Finding]:
    """Outputs beyond black and white where the image has neither."""
    if context.network is None or context.broken("range", "contrast"):
        return
    inside = context.inputs.abs() < _WITHIN
    beyond = ((context.outputs.abs() > _BEYOND) & inside).double().flatten(1).mean(1)
    share = metrics.bootstrap_mean(beyond, seed=context.seed)
    yield check(
        "clipping",
        share,
        "share of the pixels that are clipped to black or white and are neither",
        warning=0.03,
        fault=0.1,
        text="Many outputs lie beyond [-1, 1] where the image is neither black nor white: detail is cut off.",
        remedy="check the range that it was trained on; train longer (--max_images) or at a lower --model.lr",
        share=share.value,
        of="pixels",
    )


def invented_colour(context: Context) -> Iterator[Finding]:
    """Colour in what the network makes of grey images."""
    real = context.inputs
    if real.shape[1] != 3 or not context.reconstructs:
        return
    if float((real - real.mean(1, keepdim=True)).abs().max()) * _LEVELS > 2:
        return
    chroma = context.outputs - brightness(context.outputs)[:, None].float()
    amount = metrics.bootstrap_mean(chroma.double().square().flatten(1).mean(1).sqrt() * _LEVELS, seed=context.seed)
    yield check(
        "invented_colour",
        amount,
        "colour of the reconstructions of grey images, in levels of 255",
        warning=2.0,
        fault=5.0,
        text="The images are grey and their reconstructions are coloured.",
        remedy=f"hfgen train {context.recipe} --data {context.data} --channels 1, or train on colour images",
    )
