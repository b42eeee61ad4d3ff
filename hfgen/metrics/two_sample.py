"""Whether a classifier can tell generated images from real ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hfgen.errors import UserError
from hfgen.metrics.checks import check_feature_pair
from hfgen.metrics.intervals import Estimate, wilson

_ITERATIONS = 100


def two_sample_test(real: Tensor, fake: Tensor, *, seed: int) -> Estimate:
    """Accuracy of a classifier of real against generated features, on halves that it didn't see (1610.06545).

    .5 = it can't tell them apart, 1 = it always can. Of (N, D) and (M, D), as many of each are taken.

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
