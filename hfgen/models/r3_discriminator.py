"""The discriminator beside `R3Generator`: its mirror image (Huang et al., 2501.05441, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from hfgen.models.discriminator import Score
from hfgen.models.hfgen_r3gan_v1 import InvertedBottleneck


class R3Discriminator(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> one score an image (N,); higher is more real.

    Stages of `layers` inverted bottlenecks of the given widths, counted from the image, with bilinear halving (the
    mean of 2x2) between them; at side `last` each channel is weighed over its places. Every image is judged alone.
    With `classes`, it scores an image as one of its class.
    """

    def __init__(self, channels: int, widths: Sequence[int], last: int, layers: int = 2, classes: int = 0) -> None:
        super().__init__()
        depth = layers * len(widths)
        self.from_image = nn.Conv2d(channels, widths[0], 1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(InvertedBottleneck(width, depth) for _ in range(layers))) for width in widths
        )
        self.widen = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for before, after in pairwise(widths))
        self.collect = nn.Conv2d(widths[-1], widths[-1], last, groups=widths[-1], bias=False)
        self.score = Score(widths[-1], classes)
        for layer in (self.from_image, *self.widen, self.collect, self.score.linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        for layer in (self.from_image, self.score.linear):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Score the images, of classes (N,) where there are any."""
        x = self.stages[0](self.from_image(images))
        for widen, stage in zip(self.widen, list(self.stages)[1:], strict=True):
            x = stage(widen(avg_pool2d(x, 2)))
        return self.score(self.collect(x).flatten(1), class_labels)
