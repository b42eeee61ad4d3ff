"""Formulae, their intervals and the feature extractor; nothing here reads or writes results."""

from hfgen.metrics.backbones import BackboneExtractor, InceptionExtractor, load_extractor, named_extractor
from hfgen.metrics.bins import NDB, ndb
from hfgen.metrics.collector import Collector
from hfgen.metrics.dependent import (
    coverage_difference,
    kernel_distance_difference,
    paired_kernel_distance,
    ratio_difference,
)
from hfgen.metrics.distances import (
    MomentsAccumulator,
    frechet_distance,
    kernel_distance,
    moments,
    perceptual_distance,
)
from hfgen.metrics.extractors import EmbeddedExtractor, Extractor, embedded_extractor, pixel_extractor
from hfgen.metrics.intervals import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    clustered,
    frechet_distance_interval,
    kernel_distance_interval,
    prdc_intervals,
)
from hfgen.metrics.judge_power import JudgePower, judge_power
from hfgen.metrics.latents import (
    CodebookUse,
    active_units,
    active_units_interval,
    bits_per_dim,
    codebook_use,
    kl_bits,
)
from hfgen.metrics.memorisation import memorisation
from hfgen.metrics.modes import Modes, modes, modes_intervals
from hfgen.metrics.neighbours import PRDC, expected_coverage, prdc
from hfgen.metrics.pixels import capped_psnr, ms_ssim, mse, psnr, ssim
from hfgen.metrics.placement import computing_on, measuring
from hfgen.metrics.sharpness import sharpness
from hfgen.metrics.spectrum import (
    AveragingIdentity,
    PowerSpectrum,
    averaging_identity,
    high_frequency_ratio,
    luma,
    power_spectrum,
    spectral_distance,
)
from hfgen.metrics.two_sample import two_sample_test
from hfgen.metrics.vendi import vendi_interval, vendi_score

__all__ = [
    "NDB",
    "PRDC",
    "AveragingIdentity",
    "BackboneExtractor",
    "CodebookUse",
    "Collector",
    "EmbeddedExtractor",
    "Estimate",
    "Extractor",
    "InceptionExtractor",
    "JudgePower",
    "Modes",
    "MomentsAccumulator",
    "PowerSpectrum",
    "active_units",
    "active_units_interval",
    "averaging_identity",
    "bits_per_dim",
    "bootstrap_mean",
    "bootstrap_ratio",
    "capped_psnr",
    "clustered",
    "codebook_use",
    "computing_on",
    "coverage_difference",
    "embedded_extractor",
    "expected_coverage",
    "frechet_distance",
    "frechet_distance_interval",
    "high_frequency_ratio",
    "judge_power",
    "kernel_distance",
    "kernel_distance_difference",
    "kernel_distance_interval",
    "kl_bits",
    "load_extractor",
    "luma",
    "measuring",
    "memorisation",
    "modes",
    "modes_intervals",
    "moments",
    "ms_ssim",
    "mse",
    "named_extractor",
    "ndb",
    "paired_kernel_distance",
    "perceptual_distance",
    "pixel_extractor",
    "power_spectrum",
    "prdc",
    "prdc_intervals",
    "psnr",
    "ratio_difference",
    "sharpness",
    "spectral_distance",
    "ssim",
    "two_sample_test",
    "vendi_interval",
    "vendi_score",
]
