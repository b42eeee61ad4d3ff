"""What the metrics demand of their inputs, each refusal in one line."""

from __future__ import annotations

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.placement import moved


def check_images(images: Tensor, name: str) -> None:
    """Refuse anything but a non-empty uint8 (N, C, H, W) with C = 1 or 3."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        kind = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        raise UserError(f"{name}: {kind} is not an image set; give uint8 (N, C, H, W) with C = 1 or 3")
    if images.numel() == 0:
        raise UserError(f"{name}: the set is empty; give at least one image")


def check_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinity."""
    if values.is_floating_point() and not values.isfinite().all():
        raise UserError(f"{name}: NaN or infinity found; check the model or the images behind them")


def check_features(features: Tensor, name: str, at_least: int) -> Tensor:
    """(N, D) features as float64, where metrics compute.

    Raises:
        UserError: another shape, fewer than `at_least` rows, no columns, NaN or infinity.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise UserError(f"{name}: shape {tuple(features.shape)} is not (N, D); give one row per image")
    if len(features) < at_least:
        raise UserError(f"{name}: {len(features)} images are too few; give at least {at_least}")
    check_finite(features, name)
    return moved(features).double()


def check_feature_pair(
    first: Tensor, second: Tensor, at_least: int, names: tuple[str, str] = ("real", "fake")
) -> tuple[Tensor, Tensor]:
    """Two feature sets of one width as float64; see `check_features`."""
    first = check_features(first, names[0], at_least)
    second = check_features(second, names[1], at_least)
    if first.shape[1] != second.shape[1]:
        widths = f"{second.shape[1]} features against {first.shape[1]} of {names[0]}"
        raise UserError(f"{names[1]}: {widths}; use one extractor for both")
    return first, second
