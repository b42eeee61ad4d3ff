"""Discriminators: networks that tell real images from generated ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


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

    def forward(self, images: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Score the images, of classes (N,) where there are any; the batch is seen in groups of four neighbours."""
        return self.score(self.features(images), class_labels)

    def features(self, images: Tensor) -> Tensor:
        """What the score is read from (N, `feature_count`)."""
        features = self.layers(images)
        features = torch.cat([features, _group_deviation(features)], 1)
        return leaky_relu(self.mix(features), 0.2).flatten(1)


def _group_deviation(features: Tensor, group: int = 4) -> Tensor:
    """Mean standard deviation over each group of neighbours, as one more channel (N, 1, H, W), in fp32."""
    count, _, height, width = features.shape
    if count % group:
        group = 1
    with torch.autocast(features.device.type, enabled=False):
        groups = features.float().reshape(count // group, group, -1)
        deviation = groups.var(1, correction=0).add(1e-8).sqrt().mean(1)
    return deviation.repeat_interleave(group).to(features.dtype)[:, None, None, None].expand(-1, 1, height, width)
