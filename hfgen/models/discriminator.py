"""Discriminators: networks that tell real images from generated ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

Join = Callable[[Tensor], tuple[Tensor, slice]]
"""(n, ...) -> what all processes gave (N, ...), and where this one's lies in it."""

GROUP = 4
"""Neighbouring images whose variety is seen together."""


class Score(nn.Module):
    """Features (N, width) -> scores (N,): linear and, with `classes`, a projection.

    The projection adds the inner product of the features and an embedding of the class, here over the root of
    the width (Miyato and Koyama, 1802.05637).
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.embedding = nn.Embedding(classes, width) if classes else None

    def forward(self, features: Tensor, class_labels: Tensor | None) -> Tensor:
        """Score the features, of classes (N,) where there are any."""
        scores = self.linear(features).squeeze(1)
        if self.embedding is None:
            return scores
        return scores + (features * self.embedding(class_labels)).sum(1) / math.sqrt(features.shape[1])


class ImageDiscriminator(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> one score an image (N,); higher is more real.

    Strided convolutions, each of which halves the side and doubles the channels from `width`, down to side 4 at most
    (DCGAN's; Radford et al., 1511.06434), without normalisation, so that a gradient penalty stays per image. There a
    channel with the standard deviation over neighbouring images (Karras et al., 1710.10196) lets it see missing
    variety. With `classes`, it scores an image as one of its class.

    Neighbours are groups of four of the whole batch. `join`, where processes share it, joins a tensor (n, ...) over
    them, with its gradient, and says where theirs lies in it; it is called where groups lie in more than one process.
    """

    def __init__(self, channels: int, resolution: int, width: int, max_width: int, classes: int = 0) -> None:
        super().__init__()
        side, here = resolution // 2, width
        layers: list[nn.Module] = [nn.Conv2d(channels, here, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        while side > 4:
            wider = min(2 * here, max_width)
            layers += [nn.Conv2d(here, wider, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            side, here = side // 2, wider
        self.layers = nn.Sequential(*layers)
        self.mix = nn.Conv2d(here + 1, here, 3, padding=1)
        self.feature_count = here * side * side
        self.score = Score(self.feature_count, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, class_labels: Tensor | None = None, join: Join | None = None) -> Tensor:
        """Score the images, of classes (N,) where there are any; the batch is seen in groups of four neighbours."""
        return self.score(self.features(images, join), class_labels)

    def features(self, images: Tensor, join: Join | None = None) -> Tensor:
        """What the score is read from (N, `feature_count`)."""
        features = self.layers(images)
        if join is None or len(features) % GROUP == 0:
            deviation = _group_deviation(features)
        else:
            batch, own = join(features)
            deviation = _group_deviation(batch)[own]
        features = torch.cat([features, deviation], 1)
        return leaky_relu(self.mix(features), 0.2).flatten(1)


def _group_deviation(features: Tensor) -> Tensor:
    """Mean standard deviation over each group of neighbours, as one more channel (N, 1, H, W), in fp32.

    It is near 0 where the groups don't divide the batch.
    """
    count, _, height, width = features.shape
    group = 1 if count % GROUP else GROUP
    with torch.autocast(features.device.type, enabled=False):
        groups = features.float().reshape(count // group, group, -1)
        deviation = groups.var(1, correction=0).add(1e-8).sqrt().mean(1)
    return deviation.repeat_interleave(group).to(features.dtype)[:, None, None, None].expand(-1, 1, height, width)
