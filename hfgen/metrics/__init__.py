"""Formulae, their intervals and the feature extractor; nothing here reads or writes results."""

from hfgen.metrics.dependent import (
    coverage_difference,
    kernel_distance_difference,
    paired_kernel_distance,
    ratio_difference,
)
from hfgen.metrics.distances import frechet_distance, kernel_distance, moments
from hfgen.metrics.extractors import EmbeddedExtractor, cached_extractor, embedded_extractor
from hfgen.metrics.intervals import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    frechet_distance_interval,
    kernel_distance_interval,
    prdc_intervals,
)
from hfgen.metrics.modes import Modes, modes
from hfgen.metrics.neighbours import PRDC, expected_coverage, prdc
from hfgen.metrics.pixels import capped_psnr, mse, psnr, ssim
from hfgen.metrics.spectrum import (
    AveragingIdentity,
    PowerSpectrum,
    averaging_identity,
    high_frequency_ratio,
    luma,
    power_spectrum,
)

__all__ = [
    "PRDC",
    "AveragingIdentity",
    "EmbeddedExtractor",
    "Estimate",
    "Modes",
    "PowerSpectrum",
    "averaging_identity",
    "bootstrap_mean",
    "bootstrap_ratio",
    "cached_extractor",
    "capped_psnr",
    "coverage_difference",
    "embedded_extractor",
    "expected_coverage",
    "frechet_distance",
    "frechet_distance_interval",
    "high_frequency_ratio",
    "kernel_distance",
    "kernel_distance_difference",
    "kernel_distance_interval",
    "luma",
    "modes",
    "moments",
    "mse",
    "paired_kernel_distance",
    "power_spectrum",
    "prdc",
    "prdc_intervals",
    "psnr",
    "ratio_difference",
    "ssim",
]
