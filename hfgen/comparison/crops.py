"""Where models differ most within images: small pieces, enlarged pixel by pixel, beside their errors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hfgen.comparison.differences import reconstructed
from hfgen.comparison.galleries import Gallery
from hfgen.evaluation.evaluate import Evaluation
from hfgen.metrics.placement import in_parts
from hfgen.reporting.pictures import Strip, corners, cut, error_maps

SIDE = 32
"""Of a piece, in pixels."""

_SHOWN, _SMALLEST = 8, 2 * SIDE
_STEP = SIDE // 4
_NUMBERS = 2**22


def crops(evaluations: dict[str, Evaluation]) -> list[Gallery]:
    """One gallery, of two models or more that reconstruct images of 64 pixels or more; else none."""
    images = reconstructed(evaluations)
    originals = next(iter(evaluations.values())).originals
    if len(images) < 2 or min(originals.shape[2:]) < _SMALLEST:
        return []
    gaps, places = _largest_gaps(originals, images)
    chosen = gaps.argsort(descending=True, stable=True)[:_SHOWN]
    corner = places[chosen].tolist()
    real = cut(originals[chosen], corner, SIDE)
    made = {name: cut(pictures[chosen], corner, SIDE) for name, pictures in images.items()}
    # Of the colours, by which the places are chosen: brightness alone hides a wrong hue.
    levels = {name: (pieces.double() - real.double()).abs().mean(1) for name, pieces in made.items()}
    highest = max(float(errors.max()) for errors in levels.values())
    strips = [Strip(f"real: {SIDE} x {SIDE} pixels", real)]
    for name, pieces in made.items():
        strips += [Strip(f"{name}: the same places", pieces, name)]
        strips += [Strip(f"{name}: errors", error_maps(levels[name], highest), name)]
    caption = (
        "The pieces in which the models' squared errors differ most, one an image. Errors are absolute differences, "
        f"the mean of the channels, on one scale: dark blue 0, yellow {highest:.0f} of 255 levels."
    )
    rows = [
        {"image": image, "top": top, "left": left} for image, (top, left) in zip(chosen.tolist(), corner, strict=True)
    ]
    return [Gallery("crops", "Where models differ most, close up", caption, [strips], rows)]


def _largest_gaps(originals: Tensor, images: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """By image, the largest difference between two models' mean squared error over a piece (n,), and where (n, 2)."""
    gaps, places = [], []
    batch = max(1, _NUMBERS // originals[0].numel())
    for real, *made in in_parts(batch, originals, *images.values()):
        errors = torch.stack([(pictures.float() - real.float()).square().mean(1) for pictures in made])
        means = avg_pool2d(errors, SIDE, _STEP)
        spread = means.amax(0) - means.amin(0)
        gaps.append(spread.flatten(1).amax(1))
        places.append(corners(spread, _STEP))
    return torch.cat(gaps), torch.cat(places)
