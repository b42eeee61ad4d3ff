"""The judge's network: it tells classes, and keeps what each of its depths sees, so that texture counts too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfgen.models.classifier import LARGEST_SIDE, WIDTH, classifier_inputs

FITTED_ON = 5000
"""Training images that a whitening is fitted on."""

_NEGLIGIBLE = 1e-6
_LINEAR = 3.0


class Whitening(nn.Module):
    """Statistics (N, D) -> their principal components (N, K), of one scale; K is 64, or D where that is less.

    Each statistic is scaled to variance 1 first, and each component then, so that a judge doesn't see what varies
    most alone: noise and blur move directions in which real images hardly differ. What lies far out grows as its
    logarithm, statistics (asinh, linear up to three deviations) and components (asinh, up to one): else a few odd
    images decide a kernel of the third power. An eigenvalue of D statistics of N images is uncertain by about D / N,
    which is added to each before it divides: with few images, less is enlarged.
    """

    mean: Tensor
    scale: Tensor
    matrix: Tensor
    offset: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        outputs = min(inputs, WIDTH)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("matrix", torch.zeros(inputs, outputs))
        self.register_buffer("offset", torch.zeros(outputs))

    def forward(self, statistics: Tensor) -> Tensor:
        """The components."""
        return (_drawn_in((statistics - self.mean) / self.scale) @ self.matrix - self.offset).asinh()

    def fit(self, statistics: Tensor) -> None:
        """To those of training images, (N, D) with N at least 2."""
        values = statistics.double()
        mean, deviation = values.mean(0), values.std(0)
        # What is the same for all images tells nothing; its rounding, enlarged, would dominate the rest.
        scale = torch.where(deviation > _NEGLIGIBLE, deviation, 1)
        scaled = _drawn_in((values - mean) / scale)
        centre = scaled.mean(0)
        variances, directions = torch.linalg.eigh((scaled - centre).T @ (scaled - centre) / (len(scaled) - 1))
        count = self.matrix.shape[1]
        variances, directions = variances[-count:].clamp(min=0), directions[:, -count:]
        matrix = directions / (variances + values.shape[1] / len(values)).sqrt()
        for buffer, found in (
            (self.mean, mean),
            (self.scale, scale),
            (self.matrix, matrix),
            (self.offset, centre @ matrix),
        ):
            buffer.copy_(found)


def _drawn_in(scaled: Tensor) -> Tensor:
    return _LINEAR * torch.asinh(scaled / _LINEAR)


class JudgeNetwork(nn.Module):
    """A classifier of five or six convolutions whose statistics at every depth are features too.

    The first convolution sees every pixel. BatchNorm's constants are those of the training images: unlike GroupNorm,
    it doesn't take an image's own contrast and noise out of it.

    Args:
        shape: (C, S, S) of the images. Above 64 pixels the classes are told of images averaged down to 64, and the
            first two stages see the image as it is too, or noise and blur would be averaged away.
    """

    def __init__(self, shape: tuple[int, ...] | torch.Size) -> None:
        super().__init__()
        channels, side, _ = shape
        self.fine = side > LARGEST_SIDE
        # At 64 pixels the first stage takes as long as all others.
        widths = [16] if side <= 32 else [8, 16]
        stages = [_block(channels, widths[0], 1)]
        if side > 32:
            stages.append(_block(8, 16, 2))
        stages.append(_block(widths[-1], 24, 2))
        stages.append([*_block(24, 48, 2), *_block(48, 48, 1)])
        stages.append([*_block(48, 96, 2), *_block(96, 96, 1)])
        widths += [24, 48, 96]
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        # 2 x 2 places: letters need them.
        self.linear = nn.Linear(widths[-1] * 4, WIDTH)
        counted = sum(widths) + (sum(widths[:2]) if self.fine else 0)
        self.whitening = Whitening(WIDTH + 2 * counted)
        # A fifth less time on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> what the classes are told by, (N, 64)."""
        return self._embedding(self._maps(classifier_inputs(images))[-1])

    def statistics(self, images: Tensor) -> Tensor:
        """The same, with the mean and the deviation over places of each channel of each stage: (N, D)."""
        maps = self._maps(classifier_inputs(images))
        found = [self._embedding(maps[-1])]
        for values in maps + (self._maps(images, 2) if self.fine else []):
            mean = values.mean((2, 3), keepdim=True)
            # Tensor.std sums in float64, value by value: twice the time.
            found += [mean.flatten(1), (values - mean).square_().mean((2, 3)).sqrt()]
        return torch.cat(found, 1)

    def features(self, images: Tensor) -> Tensor:
        """The statistics, whitened: (N, 64)."""
        return self.whitening(self.statistics(images))

    def _maps(self, images: Tensor, stages: int | None = None) -> list[Tensor]:
        found = [images]
        for stage in self.stages[:stages]:
            found.append(stage(found[-1]))
        return found[1:]

    def _embedding(self, deepest: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(deepest, 2).flatten(1))


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
