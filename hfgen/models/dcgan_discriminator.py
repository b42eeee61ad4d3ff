"""The discriminator beside `DCGANGenerator`: DCGAN's (Radford et al., 1511.06434)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, leaky_relu

from hfgen.models.discriminator import Join, Score


class DCGANDiscriminator(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> one score an image (N,); higher is more real.

    Strided convolutions of the given widths, counted from the image, each of which halves the side. All but the first
    are normalised by the mean and deviation of the whole batch, so that an image's score depends on the batch: real and
    generated images are judged in batches of their own. With `classes`, it scores an image as one of its class.

    `join`, where processes share the batch, joins a tensor (n, ...) over them, with its gradient, and says where theirs
    lies in it.
    """

    def __init__(self, channels: int, resolution: int, widths: Sequence[int], classes: int = 0) -> None:
        super().__init__()
        self.from_image = nn.Conv2d(channels, widths[0], 4, 2, 1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths[1:])
        side = resolution // 2 ** len(widths)
        self.score = Score(widths[-1] * side**2, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, class_labels: Tensor | None = None, join: Join | None = None) -> Tensor:
        """Score the images, of classes (N,) where there are any."""
        features = leaky_relu(self.from_image(images), 0.2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = leaky_relu(norm(layer(features), join), 0.2)
        return self.score(features.flatten(1), class_labels)


class BatchNorm(nn.Module):
    """Features (N, width, H, W) by the batch's own mean and deviation a channel (Ioffe and Szegedy, 1502.03167).

    It keeps no running statistics, which a discriminator doesn't need: they would depend on what it judged last.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor, join: Join | None) -> Tensor:
        """Normalise features (n, ...); with `join` by those of all processes."""
        batch, own = (features, slice(None)) if join is None else join(features)
        return batch_norm(batch, None, None, self.weight, self.bias, training=True)[own]
