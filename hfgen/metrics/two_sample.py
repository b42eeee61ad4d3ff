"""Whether a classifier can tell generated images from real ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair
from hfgen.metrics.intervals import Estimate, wilson
from hfgen.metrics.placement import back, moved
from hfgen.metrics.spectrum import Window, batch_size, power_spectrum

_ITERATIONS = 100
_LEVELS = 8
# Variance of rounding to 8 bits, of values in [0, 1]: what keeps the logarithms of flat images finite.
_ROUNDING = 1 / 12 / 255**2


def two_sample_test(real: Tensor, fake: Tensor, *, seed: int) -> Estimate:
    """Accuracy of a classifier of real against generated features, on halves that it didn't see (1610.06545).

    .5 = it can't tell them apart, 1 = it always can. Of (N, D) and (M, D), as many of each are taken. The interval is
    for the classifier that was trained here.

    The classifier is a logistic regression on the features and their squares, standardised, with a ridge of 1: means
    and variances that differ suffice to be told apart, its optimum is unique, and it needs no tuning. Nearest
    neighbours, the paper's other choice, see little in dozens of dimensions at a few thousand images.

    Raises:
        UserError: not two sets of one width, fewer than four images, NaN or infinity, or features whose numbers are
            too large for a classifier.
    """
    real, fake = check_feature_pair(real, fake, at_least=4)
    size = min(len(real), len(fake))
    generator = torch.Generator().manual_seed(seed)
    picks = [torch.randperm(len(x), generator=generator)[:size].to(x.device) for x in (real, fake)]
    half = size // 2
    train = torch.cat([real[picks[0][:half]], fake[picks[1][:half]]])
    test = torch.cat([real[picks[0][half:]], fake[picks[1][half:]]])
    train, test = _standardised(train, train, test)
    # Of standardised features, so that a square isn't its own feature again where the mean is far from 0.
    squares, test_squares = _standardised(train.square(), train.square(), test.square())
    weights = _fit(torch.cat([train, squares], 1), half)
    scores = torch.cat([test, test_squares], 1) @ weights[:-1] + weights[-1]
    if not scores.isfinite().all():
        raise UserError("fake: the classifier's scores overflow; use features of a usual size")
    is_fake = torch.arange(len(scores), device=scores.device) >= len(scores) // 2
    return wilson(float(((scores > 0) == is_fake).double().mean()), len(scores))


def two_sample_test_of_pixels(real: Tensor, fake: Tensor, window: Window = "none", *, seed: int) -> Estimate:
    """`two_sample_test` of uint8 images (N, C, H, W), (M, C, H, W) by `pixel_statistics` instead of features.

    A network that was trained to classify is nearly blind to noise, since classes don't depend on it; these see it.
    Whether they see a fault at all is tested by a positive control: real images with that fault against real ones.

    Raises:
        UserError: as `two_sample_test` and `power_spectrum`, or images of different shapes.
    """
    if real.shape[1:] != fake.shape[1:]:
        raise UserError(
            f"fake: images of {tuple(fake.shape[1:])} against {tuple(real.shape[1:])} of real; give one size"
        )
    return two_sample_test(pixel_statistics(real, window), pixel_statistics(fake, window), seed=seed)


def pixel_statistics(images: Tensor, window: Window = "none") -> Tensor:
    """What pixels say of each image without a network: uint8 (N, C, H, W) -> float64 (N, S).

    The logarithm of the luma's power in each ring of the spectrum, corners included; of each channel the mean, the
    share of pixels in each of 8 ranges of levels, and the logarithms of the Laplacian's mean and median square, of
    which edges rule the one and noise the other; of colour images the same Laplacian and the mean of what red and blue
    differ from green by. S is 34 for grey 32 x 32 pixels.

    Raises:
        UserError: as `power_spectrum`.
    """
    spectrum = power_spectrum(images, window)
    powers = torch.cat([spectrum.bands, spectrum.corner_bands], 1)
    floor = _ROUNDING / images[0, 0].numel()
    channels = torch.cat([_of_channels(moved(batch)) for batch in images.split(batch_size(images))])
    return torch.cat([(powers + floor).log(), back(channels)], 1)


def _of_channels(images: Tensor) -> Tensor:
    values = images.double() / 255
    shares = [((images >> 5) == level).double().mean((2, 3)) for level in range(_LEVELS)]
    found = [values.mean((2, 3)), *shares, _edges(values)]
    if images.shape[1] == 3:
        colours = values[:, [0, 2]] - values[:, 1:2]
        found += [colours.mean((2, 3)), _edges(colours)]
    return torch.cat(found, 1)


def _edges(values: Tensor) -> Tensor:
    """The logarithms of the mean and of the median square of the Laplacian, (N, 2 C)."""
    rows, columns = values.diff(n=2, dim=2)[..., 1:-1], values.diff(n=2, dim=3)[..., 1:-1, :]
    squares = (rows + columns).square().flatten(2)
    return (torch.cat([squares.mean(2), squares.median(2).values], 1) + _ROUNDING).log()


def _standardised(train: Tensor, *others: Tensor) -> list[Tensor]:
    mean, deviation = train.mean(0), train.std(0)
    return [(x - mean) / torch.where(deviation > 0, deviation, 1) for x in others]


def _fit(inputs: Tensor, real: int) -> Tensor:
    """Weights (P + 1,), the last the constant; the first `real` rows (N, P) score below 0, the others above."""
    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    targets = (torch.arange(len(inputs), device=inputs.device) >= real).double()
    weights = torch.zeros(inputs.shape[1], dtype=torch.float64, device=inputs.device)
    optimiser = torch.optim.LBFGS([weights], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        scores = inputs @ weights
        penalised = weights * (torch.arange(len(weights), device=weights.device) < len(weights) - 1)
        weights.grad = (inputs.T @ (scores.sigmoid() - targets) + penalised) / len(inputs)
        return ((softplus(scores) - targets * scores).sum() + penalised.square().sum() / 2) / len(inputs)

    optimiser.step(loss)
    return weights
