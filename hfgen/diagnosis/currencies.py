"""The shares of noise or codes, encoder and decoder in what is wrong, measured in more than power."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.attribution import factors, interval, is_complete, resampled_means
from hfgen.diagnosis.chain import Chain
from hfgen.diagnosis.gates.context import squared_error
from hfgen.errors import UserError
from hfgen.evaluation.held_out import HeldOut
from hfgen.images import to_float
from hfgen.metrics import Estimate
from hfgen.metrics.distances import kernel_excess

BANDS = ("low", "middle", "high")

Shares = dict[str, dict[str, Estimate]]
"""Estimates by cause, by the measure: `power_high`, `squared_error`, `kid`."""


def shares(real: HeldOut, chain: Chain, seed: int, found: metrics.Collector) -> Shares:
    """What each part brings by the factorial of refits in each measure, and what none of them does; {} without refits.

    - `power_*`, `gain_*`, `coherence_*`, by band: parts of what the reconstructions' number is below 1.
    - `squared_error`: parts of the reconstructions' squared error, in units of it.
    - `kid`: parts of the reconstructions' KID with the judge's features, in its own units.

    All are signed. With `unexplained`, what is left by the refit in which all is free, they sum to the whole. What
    isn't defined is noted in `found`.
    """
    images: dict[str, list[Tensor]] = chain.cells(real.images)
    images |= {name: [made] for name, made in chain.stages.items() if name in ("mean", "unquantised")}
    if not is_complete(images):
        return {}
    columns = {name: _columns(real, repeats) for name, repeats in images.items()}
    columns["real"] = _bands(metrics.power_spectrum(real.images, real.window))[:, None]
    whole = _shares({name: values.mean((0, 1))[None] for name, values in columns.items()})
    spread = _shares(resampled_means(columns, torch.Generator().manual_seed(seed)))
    count, estimates = len(real.images), {}
    for measure, parts in whole.items():
        of = {cause: (value, spread[measure][cause]) for cause, value in parts.items()}
        if given := found.attempt(f"shares of {measure}", partial(_estimates, of, count)):
            estimates[measure] = given
    return estimates


def _columns(real: HeldOut, repeats: list[Tensor]) -> Tensor:
    """Of each image and refit (N, K, 8): powers of three bands, those of the product, squared error and KID."""
    return torch.stack([_of_images(real, images) for images in repeats], 1)


def _of_images(real: HeldOut, images: Tensor) -> Tensor:
    measures = metrics.band_measures(real.images, images, real.window)
    errors = squared_error(to_float(images), to_float(real.images))
    features = real.extractor.features(images).double()
    own = real.features.double()
    excess = (kernel_excess(own, features) + kernel_excess(features, own)).cpu()
    # The mean of it is the KID, of which an image's own part has twice the deviation (Hoeffding's projection).
    kid = 2 * excess - excess.mean()
    return torch.cat([_bands(measures.reconstruction), _bands(measures.product), errors[:, None], kid[:, None]], 1)


def _bands(spectrum: metrics.PowerSpectrum) -> Tensor:
    return torch.stack([getattr(spectrum, band) for band in BANDS], 1)


def _shares(means: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By measure and cause (R,), of the columns' means (R, 8) by stage."""
    powers = means["real"]
    values: dict[str, dict[str, Tensor]] = {}
    for stage, columns in means.items():
        if stage == "real":
            continue
        made, product, rest = columns.split([3, 3, 2], 1)
        of_bands = (made / powers, product / made, product.square() / (powers * made))
        for name, numbers in zip(("power", "gain", "coherence"), of_bands, strict=True):
            for band, column in zip(BANDS, numbers.unbind(1), strict=True):
                values.setdefault(f"{name}_{band}", {})[stage] = column
        values.setdefault("squared_error", {})[stage] = -rest[:, 0] / means["mean"][:, 6]
        values.setdefault("kid", {})[stage] = -rest[:, 1]
    found = {}
    for measure, value in values.items():
        parts, best = factors(value), 0.0 if measure in ("squared_error", "kid") else 1.0
        found[measure] = {**parts, "unexplained": best - value["mean"] - sum(parts.values())}
    return found


def _estimates(parts: Mapping[str, tuple[Tensor, Tensor]], n: int) -> dict[str, Estimate]:
    """Of values (1,) and their resamples (R,).

    Raises:
        UserError: a band without power.
    """
    if not all(part.isfinite().all() for pair in parts.values() for part in pair):
        raise UserError("some images have no power in this band")
    return {name: interval(float(value), resampled, n) for name, (value, resampled) in parts.items()}
