"""Which pictures are shown: the first ones, failures, and where models differ most; never the best ones alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from hfgen.comparison.differences import Features, drawn, psnr_by_image, reconstructed
from hfgen.evaluation.evaluate import Evaluation
from hfgen.reporting.pictures import Strip, error_levels, error_maps, most_images

RECONSTRUCTIONS = "reconstructions"
"""Ends the label of the row of a model's first ones."""

_MOST_PAIRS = 3
_NUMBERS = 2**22


@dataclass(frozen=True)
class Gallery:
    """Strips that belong together.

    `name`: of its file. `groups`: rows of which each shows, column by column, the same images. `chosen`: the rows of
    the evaluation dataset that are shown, as JSON values.
    """

    name: str
    title: str
    caption: str
    groups: list[list[Strip]]
    chosen: list[dict[str, Any]]

    @property
    def strips(self) -> list[Strip]:
        """All of them."""
        return [strip for group in self.groups for strip in group]


def galleries(evaluations: dict[str, Evaluation], features: Features | None) -> list[Gallery]:
    """Disagreements (two models that reconstruct), worst reconstructions (one), oddest samples (one that draws)."""
    scores = psnr_by_image(evaluations)
    found = [_oddest_samples(evaluations, features)] if drawn(evaluations) else []
    if scores:
        found.insert(0, _worst_reconstructions(evaluations, scores))
    if len(scores) > 1:
        found.insert(0, _disagreements(evaluations, scores))
    return found


def _disagreements(evaluations: dict[str, Evaluation], scores: dict[str, Tensor]) -> Gallery:
    images, rows, chosen = reconstructed(evaluations), [], []
    pairs = list(combinations(scores, 2))
    for first, second in pairs[:_MOST_PAIRS]:
        order = (scores[first] - scores[second]).argsort(descending=True, stable=True)
        half = min(most_images(_side(evaluations)) // 2, len(order) // 2)
        picks = {"highest": order[:half], "lowest": order[len(order) - half :]}
        for end, places in picks.items():
            rows.append(
                [
                    Strip(f"real: PSNR of {first} - {second} {end}", _originals(evaluations)[places]),
                    Strip(f"{first}: reconstructions of those", images[first][places], first),
                    Strip(f"{second}: reconstructions of those", images[second][places], second),
                ]
            )
        chosen.append({"first": first, "second": second, **{end: places.tolist() for end, places in picks.items()}})
    left_out = f" Of {len(pairs)} pairs of models, the first {_MOST_PAIRS}." if len(pairs) > _MOST_PAIRS else ""
    caption = f"Of all held-out images, those with the highest and the lowest difference in PSNR.{left_out}"
    return Gallery("disagreements", "Where two models differ most", caption, rows, chosen)


def _worst_reconstructions(evaluations: dict[str, Evaluation], scores: dict[str, Tensor]) -> Gallery:
    images, originals = reconstructed(evaluations), _originals(evaluations)
    picks = {name: score.argsort(stable=True)[: most_images(_side(evaluations))] for name, score in scores.items()}
    levels = {name: error_levels(originals[worst], images[name][worst]) for name, worst in picks.items()}
    highest = max(float(errors.max()) for errors in levels.values())
    rows = [
        [
            Strip(f"real: the worst for {name}", originals[worst]),
            Strip(f"{name}: reconstructions of those", images[name][worst], name),
            Strip(f"{name}: errors", error_maps(levels[name], highest), name),
        ]
        for name, worst in picks.items()
    ]
    caption = (
        "Each model's lowest PSNR, worst first. Errors are absolute differences in brightness, on one scale for all "
        f"models: dark blue 0, yellow {highest:.0f} of 255 levels."
    )
    chosen = [{"model": name, "images": worst.tolist()} for name, worst in picks.items()]
    return Gallery("worst_reconstructions", "The worst reconstructions", caption, rows, chosen)


def _oddest_samples(evaluations: dict[str, Evaluation], features: Features | None) -> Gallery:
    originals = _originals(evaluations)
    rows, chosen = [], []
    for name, samples in drawn(evaluations).items():
        pair = (samples, originals) if features is None else (features.samples[name], features.real)
        distances, neighbours = _nearest(*pair)
        oddest = distances.argsort(descending=True, stable=True)[: most_images(_side(evaluations))]
        rows.append(
            [
                Strip(f"{name}: samples farthest from real", samples[oddest], name),
                Strip("the real image nearest to each", originals[neighbours[oddest]]),
            ]
        )
        chosen.append({"model": name, "samples": oddest.tolist(), "nearest": neighbours[oddest].tolist()})
    space = "the extractor's features" if features is not None else "pixels, since the extractor isn't on this machine"
    caption = f"By the distance to the nearest held-out image, measured in {space}; farthest first."
    return Gallery("oddest_samples", "The oddest samples", caption, rows, chosen)


def _nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) of each point (N, ...) to the nearest of the others (M, ...), and which that is (N,).

    Of both sets only some rows at a time are converted to floats.
    """
    batch = max(1, _NUMBERS // points[0].numel())
    best, nearest = torch.full((len(points),), torch.inf).double(), torch.zeros(len(points), dtype=torch.int64)
    for rows in torch.arange(len(points)).split(batch):
        for first in range(0, len(others), batch):
            distances = torch.cdist(_floats(points[rows]), _floats(others[first : first + batch])).double()
            least, found = distances.min(1)
            closer = least < best[rows]
            nearest[rows] = torch.where(closer, found + first, nearest[rows])
            best[rows] = torch.where(closer, least, best[rows])
    return best, nearest


def _originals(evaluations: dict[str, Evaluation]) -> Tensor:
    return next(iter(evaluations.values())).originals


def _side(evaluations: dict[str, Evaluation]) -> int:
    """Of the images, in pixels."""
    return _originals(evaluations).shape[-1]


def _floats(rows: Tensor) -> Tensor:
    return rows.flatten(1) if rows.is_floating_point() else rows.flatten(1).float()


def first_images(evaluations: dict[str, Evaluation]) -> list[list[Strip]]:
    """The first held-out images with their reconstructions model by model; then as many samples of each model."""
    count = most_images(_side(evaluations))
    real = Strip("real, held out", _originals(evaluations)[:count])
    made = [
        Strip(f"{name}: {RECONSTRUCTIONS}", images[:count], name) for name, images in reconstructed(evaluations).items()
    ]
    samples = [Strip(f"{name}: samples", images[:count], name) for name, images in drawn(evaluations).items()]
    return [[real, *made], samples] if samples else [[real, *made]]
