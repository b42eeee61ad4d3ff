"""How much a latent space carries: rate, active units, use of a codebook."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_finite
from hfgen.metrics.decisions import number_variance
from hfgen.metrics.intervals import Estimate, normal_estimate
from hfgen.metrics.occupancy import distinct, entropy_variance
from hfgen.objectives.kl import kl_to_standard_normal

_ACTIVE = 0.01
_NORMAL_95 = 1.96


class CodebookUse(NamedTuple):
    """`perplexity`: exp(entropy) of the codes, in [1, size]. `usage`: share of the codes that occur at all.

    Both grow with the images; their intervals are for the mean value at this number.
    """

    perplexity: Estimate
    usage: Estimate


def kl_bits(mean: Tensor, logvar: Tensor) -> Tensor:
    """The rate: KL(N(mean, exp(logvar)) || N(0, I)) in bits per image; two (N, ...) -> float64 (N,).

    Its mean over images bounds the information that a latent carries from above, and is what coding it costs.

    Raises:
        UserError: shapes that differ, no images, NaN or infinity.
    """
    if mean.shape != logvar.shape:
        raise UserError(f"logvar: shape {tuple(logvar.shape)} against {tuple(mean.shape)} of mean; give one each")
    mean, logvar = _flat(mean, "mean", 1), _flat(logvar, "logvar", 1)
    return kl_to_standard_normal(mean[..., None], logvar[..., None]).double() / math.log(2)


def active_units(means: Tensor) -> int:
    """How many latent numbers depend on the image: #{i: Var mu_i > .01} (Burda et al., 1509.00519, appendix C).

    (N, ...) posterior means; each number of a spatial latent counts.

    Raises:
        UserError: fewer than two images, NaN or infinity.
    """
    return int((_variances(means) > _ACTIVE).sum())


def active_units_interval(means: Tensor) -> Estimate:
    """`active_units` with an interval for the mean number at as many images, within 0 and all units.

    The standard error of a variance v over N images is sqrt((m4 - v^2) / N), m4 the fourth central moment. A unit that
    is z of them above .01 on average is above it with probability P(N(z, 1) > 0); see `number_variance`. Of few units
    near .01 that says too little, so the variance is at least that of the nearest one, at the z within 1.96 of its own
    where it is largest.
    """
    variances, flat = _variances(means), means.double().flatten(1)
    fourth = (flat - flat.mean(0)).pow(4).mean(0)
    errors = ((fourth - variances.square()).clamp_min(0) / len(flat)).sqrt()
    certain = torch.where(variances > _ACTIVE, torch.inf, -torch.inf)
    scores = torch.where(errors > 0, (variances - _ACTIVE) / errors, certain)
    nearest = torch.special.ndtr((scores.abs().min() - _NORMAL_95).clamp_min(0))
    variance = max(number_variance(scores, torch.special.ndtr), float(nearest * (1 - nearest)))
    found = normal_estimate(float((variances > _ACTIVE).sum()), variance**0.5, len(flat))
    return Estimate(found.value, max(found.low, 0.0), min(found.high, float(flat.shape[1])), found.n)


def bits_per_dim(elbo_nats: Tensor, dimensions: int, *, level: float = 1.0) -> Tensor:
    """-ELBO / (dimensions ln 2): bits per number of an image; lower is better.

    Comparable between models only as a code length of the 8-bit image. An ELBO of probabilities (`logistic_nll`) is
    one. That of a density (`gaussian_nll`, `laplace_nll`) bounds one where uniform noise as wide as a level was added
    to the image (Theis et al., 1511.01844, section 3.1) and `level` is that width: `objectives.reconstruction.LEVEL`,
    2/255, for images in [-1, 1]. Without that noise it isn't bounded from below.

    Args:
        elbo_nats: log-likelihood bound per image, any shape.
        dimensions: C H W of an image.
        level: Distance of neighbouring values; 1 for an ELBO of probabilities.

    Raises:
        UserError: no dimensions, a level that isn't positive, NaN or infinity.
    """
    if dimensions < 1 or not 0 < level < math.inf:
        raise UserError(f"dimensions: {dimensions} at level {level} isn't an image; give both above 0")
    check_finite(elbo_nats, "elbo_nats")
    return (-elbo_nats.double() / dimensions - math.log(level)) / math.log(2)


def codebook_use(codes: Tensor, size: int) -> CodebookUse:
    """Use of a codebook of `size` by the codes (N, ...) of N images, integers in [0, size).

    Raises:
        UserError: fewer than four images, values that aren't integers or out of range.
    """
    if codes.is_floating_point() or codes.ndim < 2 or len(codes) < 4 or codes.numel() == 0:
        kind = f"{str(codes.dtype).removeprefix('torch.')} {tuple(codes.shape)}"
        raise UserError(f"codes: {kind}; give integers (N, ...), one row per image, N at least 4")
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= size:
        raise UserError(f"codes: {low if low < 0 else high} is out of range; give 0 to {size - 1}")
    flat = codes.flatten(1).cpu().long()
    used = distinct(flat, size)
    usage = Estimate(used.value / size, used.low / size, used.high / size, used.n)
    return CodebookUse(_perplexity(flat, size), usage)


def _perplexity(codes: Tensor, size: int) -> Estimate:
    shares = torch.bincount(codes.flatten(), minlength=size).double() / codes.numel()
    value = math.exp(float(torch.special.entr(shares).sum()))
    found = normal_estimate(value, value * entropy_variance(codes, size) ** 0.5, len(codes))
    most = float(min(size, codes.numel()))
    # Rounding may leave an even use above the size.
    value = min(max(value, 1.0), most)
    return Estimate(value, max(min(found.low, value), 1.0), max(min(found.high, most), value), found.n)


def _variances(means: Tensor) -> Tensor:
    return _flat(means, "means", 2).double().var(0, correction=0)


def _flat(values: Tensor, name: str, at_least: int) -> Tensor:
    if values.ndim < 2 or len(values) < at_least or values.numel() == 0:
        raise UserError(f"{name}: shape {tuple(values.shape)}; give (N, ...), one row per image, N at least {at_least}")
    check_finite(values, name)
    return values.flatten(1)
