"""Of which known class an image is, or that it is of none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfgen.metrics.extractors import Extractor
from hfgen.metrics.modes import REJECTED, Recognition, accepted_modes, recognition
from hfgen.metrics.neighbours import own_nearest_distances
from hfgen.models.classifier import batch_size


@dataclass(frozen=True)
class Recogniser:
    """A judge that tells classes, and what real images have of which it is sure.

    Distances are those of `Extractor.embeddings`, by which it tells classes, and not of its features: these see blur
    and noise too, and a blurred letter is still that letter.

    Attributes:
        judge: With `mode_counts`.
        embeddings: Of real images (N, D) that it wasn't trained on.
        needed: What 95 % of these have.
        contrast: Half of the least standard deviation of their pixels: flat images show nothing, whatever a classifier
            takes black for.
    """

    judge: Extractor
    embeddings: Tensor
    needed: Recognition
    contrast: float

    def classes(self, images: Tensor) -> Tensor:
        """uint8 (M, C, S, S) -> classes (M,), -1 for those of none."""
        found = self.judge.modes(images), self.judge.confidences(images), self.judge.embeddings(images)
        classes = accepted_modes(*found, self.embeddings, self.needed)
        return torch.where(_contrasts(images) >= self.contrast, classes, REJECTED)


def recogniser(judge: Extractor, images: Tensor) -> Recogniser:
    """From real images, uint8 (N, C, S, S), each of which is held against the others.

    Raises:
        UserError: the judge tells no classes, or fewer than two images.
    """
    embeddings = judge.embeddings(images)
    needed = recognition(judge.confidences(images), own_nearest_distances(embeddings))
    return Recogniser(judge, embeddings, needed, float(_contrasts(images).min()) / 2)


def _contrasts(images: Tensor) -> Tensor:
    """The standard deviation of each image's pixels, (N,)."""
    return torch.cat([part.float().flatten(1).std(1) for part in images.split(batch_size(images))])
