"""What a judge sees on the images at hand: the smallest blur and the smallest noise that it detects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.metrics.checks import check_features, check_images
from hfgen.metrics.extractors import Extractor
from hfgen.metrics.intervals import kernel_distance_interval, prdc_intervals
from hfgen.metrics.neighbours import prdc
from hfgen.seeds import derive_seed

BLURS = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Deviations of a Gaussian blur, in pixels."""

SLIGHT_BLUR = 0.5
"""One that can hardly be seen, in pixels: the least change of real images that counts."""

NOISES = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0)
"""Deviations of white noise, of 255."""


@dataclass(frozen=True)
class JudgePower:
    """The first of `BLURS` and of `NOISES` that `n` images show to a judge; None: not even the last."""

    blur: float | None
    noise: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `JudgePower(**d)` reads it back."""
        return asdict(self)

    def __str__(self) -> str:
        blur = f"a blur of {self.blur:g} px" if self.blur else f"no blur up to {BLURS[-1]:g} px"
        noise = f"white noise of sd {self.noise:g} of 255" if self.noise else f"no white noise up to sd {NOISES[-1]:g}"
        return f"at n = {self.n} the judge detects {blur} and {noise}"


def judge_power(extractor: Extractor, features: Tensor, others: Tensor, *, seed: int, k: int = 5) -> JudgePower:
    """Degrade other real images more and more, and ask from where on both of the set metrics' kinds notice.

    A degradation is detected where the 95 % interval of the degraded images' KID lies above 0 and above the KID of
    the images as they are, and their coverage below the 95 % interval of the coverage of the images as they are. It is
    looked for by bisection, since more is seen better: 3 or 4 sets of features for each kind.

    Args:
        extractor: The judge.
        features: Its features of held-out images (N, D).
        others: Other real images, uint8 (M, C, S, S), not of the held-out ones.
        seed: Of the noise, and of coverage's halves.
        k: Nearest neighbours of coverage.

    Raises:
        UserError: not an image set, or fewer than 2 (k + 1) images in either.
    """
    check_images(others, "others")
    features = check_features(features, "features", at_least=2 * (k + 1))
    if len(others) < 2 * (k + 1):
        raise UserError(f"others: {len(others)} images are too few; give at least {2 * (k + 1)}")
    own = extractor.features(others)
    kid = max(0.0, kernel_distance_interval(features, own).value)
    coverage = prdc_intervals(features, own, k, seed=seed)["coverage"].low

    def detected(images: Tensor) -> bool:
        found = extractor.features(images)
        return kernel_distance_interval(features, found).low > kid and prdc(features, found, k).coverage < coverage

    return JudgePower(
        _first(BLURS, lambda level: detected(blurred(others, level))),
        _first(NOISES, lambda level: detected(noisy(others, level, seed))),
        min(len(features), len(others)),
    )


def kid_of_blur(extractor: Extractor, features: Tensor, others: Tensor) -> float:
    """What a blur of `SLIGHT_BLUR` adds to the KID of other real images, at least 0: a scale for KIDs.

    It differs from judge to judge and from data to data. `features` (N, D) are of held-out images, `others` uint8
    (M, C, S, S).

    Raises:
        UserError: not an image set, or fewer than two images in either.
    """
    check_images(others, "others")
    as_they_are, soft = (
        kernel_distance_interval(features, extractor.features(images)).value
        for images in (others, blurred(others, SLIGHT_BLUR))
    )
    return max(soft - as_they_are, 0.0)


def blurred(images: Tensor, deviation: float) -> Tensor:
    """uint8 (N, C, H, W), each filtered with a Gaussian of `deviation` pixels; borders mirrored."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(images.cpu().numpy().astype("float32"), (0, 0, deviation, deviation))
    return torch.from_numpy(smooth).round_().to(torch.uint8)


def noisy(images: Tensor, deviation: float, seed: int) -> Tensor:
    """uint8 (N, C, H, W) with white noise of `deviation` of 255, cut off at black and white."""
    generator = torch.Generator().manual_seed(derive_seed("noise", seed))
    noise = torch.randn(images.shape, generator=generator).mul_(deviation)
    return noise.add_(images.cpu()).round_().clamp_(0, 255).to(torch.uint8)


def _first(levels: Sequence[float], detected: Callable[[float], bool]) -> float | None:
    """The first level that is detected, as are all behind it."""
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detected(levels[middle]) else (middle + 1, high)
    return levels[low] if low < len(levels) else None
