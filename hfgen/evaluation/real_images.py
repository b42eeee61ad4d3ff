"""The held-out images, and what everything that is compared with them needs of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from hfgen import metrics
from hfgen.metrics.checks import check_finite

NEIGHBOURS = 5

# About eight times as many images go through it.
_LOOKS_OF_A_HEAVY_JUDGE, _PIXELS_OF_A_LIGHT_ONE = 500, 2**22


@dataclass(frozen=True, eq=False)
class RealImages:
    """What everything is compared with.

    Attributes:
        images: Held-out images, uint8 (n, C, R, R).
        labels: Their classes (n,), or None.
        others: Training images, at most n: the baseline.
        extractor: The judge.
        features: Of `images`; float64 (n, D).
        spectrum: Of `images`; its window is for all images that are compared with them.
        sharpness: Of `images`, (n,) by name.
        notes: What was converted or guessed of the data, a line each.
        seed: Of all resampling.
    """

    images: Tensor
    labels: Tensor | None
    others: Tensor
    extractor: metrics.Extractor
    features: Tensor
    spectrum: metrics.PowerSpectrum
    sharpness: dict[str, Tensor]
    notes: list[str] = field(default_factory=list, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    @cached_property
    def other_features(self) -> Tensor:
        """Of `others`; float64 (m, D). Computed when they are first asked for, as all that follows."""
        return self.extractor.features(self.others)

    @cached_property
    def recogniser(self) -> metrics.Recogniser | None:
        """Of the known classes; None where there are none."""
        return None if self.extractor.mode_counts is None else metrics.recogniser(self.extractor, self.images)

    @cached_property
    def judge_power(self) -> metrics.JudgePower:
        """The smallest blur and noise that the judge detects here, on fewer images where looking at them is dear."""
        looks = _LOOKS_OF_A_HEAVY_JUDGE
        if self.extractor.is_light:
            looks = max(64, _PIXELS_OF_A_LIGHT_ONE // self.images.shape[-1] ** 2)
        others = self.others[:looks]
        return metrics.judge_power(self.extractor, self.features[: len(others)], others, seed=self.seed, k=NEIGHBOURS)

    @property
    def window(self) -> metrics.Window:
        """That of all spectra."""
        return self.spectrum.window


def real_images(
    images: Tensor, others: Tensor, labels: Tensor | None, extractor: metrics.Extractor, seed: int
) -> RealImages:
    """Describe the held-out images.

    Raises:
        UserError: the extractor's features are non-finite, or the images are too small for a spectrum.
    """
    features = extractor.features(images)
    check_finite(features, f"extractor: features of {extractor.id}")
    spectrum = metrics.power_spectrum(images, metrics.spectral_window(images))
    return RealImages(images, labels, others, extractor, features, spectrum, metrics.sharpness(images), seed=seed)
