"""Answers of many images -> powers, shares of what is missing, and errors, each with its interval over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hfgen.images import unit_to_uint8
from hfgen.metrics import Estimate, bootstrap_mean, capped_psnr
from hfgen.metrics.intervals import bootstrap_of_means
from hfgen.metrics.spectrum import spectrum_of, transform
from hfgen.studies.posterior.exact_answer import Answer

_SEED = 0


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """What posterior.json has of a model, as JSON values.

    `metrics`, of all images, and `metrics_converged`, of those that converged, where these are others; `images` lists
    each image's checks, whether it converged or not, and its powers: its own and that of E[x | z].
    """
    good = [one for one in answers if one.numbers["converged"]]
    found: dict[str, Any] = {
        "n": len(answers),
        "converged": len(good),
        "metrics": {name: estimate.as_dict() for name, estimate in measures(answers).items()},
        "images": [
            {**one.numbers, "power_real": float(real), "power_mean": float(mean)}
            for one, (real, mean, *_) in zip(answers, _columns(answers), strict=True)
        ],
    }
    if 2 <= len(good) < len(answers):
        found["metrics_converged"] = {name: estimate.as_dict() for name, estimate in measures(good).items()}
    return found


def measures(answers: Sequence[Answer]) -> dict[str, Estimate]:
    """Estimates of N answers, with 95 % intervals over images; powers are those above .25 cycles per pixel.

    Of the conditional mean E[x | z], whose square is the product of two independent estimates: `power_mean`,
    `identity` (S_real - S_mean) / S_error, which is 1 where the mean is exact, `psnr_mean`. Of the model's decoder at
    the same z: `power_decoder`, `psnr_decoder`. Of draws of the posterior: `power_draw`, `psnr_draw`. Of the power
    that the decoder's output lacks: `share_latent`, what even E[x | z] lacks, since z doesn't say it, and
    `share_decoder`, what E[x | z] has and the output hasn't. `information_bits` estimates I(x; z), at most `kl_bits`.
    """
    original = torch.stack([one.original for one in answers])
    decoded, draws = torch.stack([one.decoded for one in answers]), torch.stack([one.draws[0] for one in answers])
    means = torch.stack([one.means for one in answers])
    names = ("power_mean", "power_decoder", "power_draw", "identity", "share_latent", "share_decoder")

    def ratios(values: Tensor) -> Tensor:
        real, mean, out, drawn, error = values.unbind(1)
        missing = real - out
        parts = [mean / real, out / real, drawn / real, (real - mean) / error]
        return torch.stack([*parts, (real - mean) / missing, (mean - out) / missing], 1)

    found = dict(zip(names, bootstrap_of_means(_columns(answers), ratios, seed=_SEED), strict=True))
    pictures = {"mean": unit_to_uint8(means.mean(1, keepdim=True)), "decoder": unit_to_uint8(decoded), "draw": draws}
    for name, images in pictures.items():
        found[f"psnr_{name}"] = bootstrap_mean(capped_psnr(original, images), seed=_SEED)
    numbers = {name: torch.tensor([one.numbers[name] for one in answers]) for name in answers[0].numbers}
    information = numbers["log_density_truth"] - numbers["log_evidence"]
    for name, nats in (("information_bits", information), ("kl_bits", numbers["kl_nats"])):
        found[name] = bootstrap_mean(nats.double() / math.log(2), seed=_SEED)
    return found


def _columns(answers: Sequence[Answer]) -> Tensor:
    """Powers (N, 5) above .25 cycles/pixel: of x, E[x | z], the decoder's output, a draw, and x - E[x | z]."""
    x = _coefficients(torch.stack([one.original for one in answers]) / 255)
    decoded = _coefficients(torch.stack([one.decoded for one in answers]))
    drawn = _coefficients(torch.stack([one.draws[0] for one in answers]) / 255)
    means = torch.stack([one.means for one in answers])
    first, second = _coefficients(means[:, :1]), _coefficients(means[:, 1:])
    errors = _power(x - first, x - second)
    return torch.stack([_power(x, x), _power(first, second), _power(decoded, decoded), _power(drawn, drawn), errors], 1)


def _coefficients(images: Tensor) -> Tensor:
    return transform(images[:, 0].double(), "none")


def _power(first: Tensor, second: Tensor) -> Tensor:
    # The coefficients (N, R, R // 2 + 1) of square images.
    side = first.shape[1]
    return spectrum_of(first, torch.Size((side, side)), "none", second).high
