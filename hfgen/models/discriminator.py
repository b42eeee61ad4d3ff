"""Discriminators: networks that tell real images from generated ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu


class _DownBlock(nn.Module):
    """Residual block that halves the side; without normalisation, so that a gradient penalty stays per image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        residual = avg_pool2d(self.conv2(leaky_relu(self.conv1(leaky_relu(x, 0.2)), 0.2)), 2)
        return (residual + self.shortcut(avg_pool2d(x, 2))) * math.sqrt(0.5)


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

    A residual network (after Karras et al., 1912.04958) from side R / 2, where `width` >= 4 C channels still hold
    every pixel, down to at most 4; there a channel with the standard deviation over neighbouring images
    (Karras et al., 1710.10196) lets it see missing variety. With `classes`, it scores an image as one
    of its class.
    """

    def __init__(self, channels: int, resolution: int, width: int, max_width: int, classes: int = 0) -> None:
        super().__init__()
        side, here = resolution // 2, width
        self.stem = nn.Conv2d(channels, here, 4, stride=2, padding=1)
        blocks = []
        while side > 4:
            blocks.append(_DownBlock(here, min(2 * here, max_width)))
            side, here = side // 2, min(2 * here, max_width)
        self.blocks = nn.Sequential(*blocks)
        self.mix = nn.Conv2d(here + 1, here, 3, padding=1)
        self.hidden = nn.Linear(here * side * side, here)
        self.score = Score(here, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in blocks:
            nn.init.zeros_(block.conv2.weight)

    def forward(self, images: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Score the images, of classes (N,) where there are any; the batch is seen in groups of four neighbours."""
        return self.score(self.features(images), class_labels)

    def features(self, images: Tensor) -> Tensor:
        """What the score is read from (N, D)."""
        features = self.blocks(self.stem(images))
        features = torch.cat([features, _group_deviation(features)], 1)
        features = leaky_relu(self.mix(features), 0.2).flatten(1)
        return leaky_relu(self.hidden(features), 0.2)


def _group_deviation(features: Tensor, group: int = 4) -> Tensor:
    """Mean standard deviation over each group of neighbours, as one more channel (N, 1, H, W), in fp32."""
    count, _, height, width = features.shape
    if count % group:
        group = 1
    with torch.autocast(features.device.type, enabled=False):
        groups = features.float().reshape(count // group, group, -1)
        deviation = groups.var(1, correction=0).add(1e-8).sqrt().mean(1)
    return deviation.repeat_interleave(group).to(features.dtype)[:, None, None, None].expand(-1, 1, height, width)
