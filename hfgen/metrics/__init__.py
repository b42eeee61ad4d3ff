"""Formulae, their intervals and the feature extractor; nothing here reads or writes results."""

from hfgen.metrics.backbones import BackboneExtractor, InceptionExtractor, load_extractor, named_extractor
from hfgen.metrics.bands import (
    AveragingIdentity,
    Band,
    BandMeasures,
    averaging_identity,
    band_measures,
    bands_alone,
    calibration,
    chroma_measures,
    is_conditional_mean,
)
from hfgen.metrics.bins import NDB, ndb
from hfgen.metrics.collector import Collector
from hfgen.metrics.colour import clipped, colour_errors
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
from hfgen.metrics.extractors import (
    PIXEL_JUDGE,
    EmbeddedExtractor,
    Extractor,
    embedded_extractor,
    pixel_extractor,
    pixel_judge,
)
from hfgen.metrics.intervals import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    clustered,
    frechet_distance_interval,
    kernel_distance_interval,
    prdc_intervals,
)
from hfgen.metrics.judge_power import JudgePower, judge_power, kid_of_blur
from hfgen.metrics.latent_health import ChannelStatistics, channel_statistics, latent_spectrum, posterior_bits
from hfgen.metrics.latents import (
    CodebookUse,
    active_units,
    active_units_interval,
    bits_per_dim,
    codebook_use,
    kl_bits,
)
from hfgen.metrics.learned import learned_distances
from hfgen.metrics.linear import check_components, linear_reconstructions
from hfgen.metrics.memorisation import copying, memorisation, training_distances
from hfgen.metrics.modes import (
    Modes,
    ModeUse,
    Recognition,
    accepted_modes,
    enough_for_modes,
    modes,
    modes_intervals,
    recognition,
)
from hfgen.metrics.neighbours import PRDC, expected_coverage, prdc
from hfgen.metrics.occupancy import expected_distinct
from hfgen.metrics.paired import paired_frechet_distance, worst_tenth
from hfgen.metrics.pixels import capped_psnr, ms_ssim, mse, psnr, similarities, ssim
from hfgen.metrics.placement import computing_on, measuring
from hfgen.metrics.reading_height import ReadAt, reading_curve, reading_height
from hfgen.metrics.recogniser import Recogniser, recogniser
from hfgen.metrics.sharpness import sharpness
from hfgen.metrics.spectrum import (
    PowerSpectrum,
    Window,
    high_frequency_ratio,
    luma,
    power_spectrum,
    spectral_distance,
    spectral_window,
)
from hfgen.metrics.two_sample import pixel_statistics, two_sample_test, two_sample_test_of_pixels
from hfgen.metrics.vendi import vendi_interval, vendi_score

__all__ = [
    "NDB",
    "PIXEL_JUDGE",
    "PRDC",
    "AveragingIdentity",
    "BackboneExtractor",
    "Band",
    "BandMeasures",
    "ChannelStatistics",
    "CodebookUse",
    "Collector",
    "EmbeddedExtractor",
    "Estimate",
    "Extractor",
    "InceptionExtractor",
    "JudgePower",
    "ModeUse",
    "Modes",
    "MomentsAccumulator",
    "PowerSpectrum",
    "ReadAt",
    "Recogniser",
    "Recognition",
    "Window",
    "accepted_modes",
    "active_units",
    "active_units_interval",
    "averaging_identity",
    "band_measures",
    "bands_alone",
    "bits_per_dim",
    "bootstrap_mean",
    "bootstrap_ratio",
    "calibration",
    "capped_psnr",
    "channel_statistics",
    "check_components",
    "chroma_measures",
    "clipped",
    "clustered",
    "codebook_use",
    "colour_errors",
    "computing_on",
    "copying",
    "coverage_difference",
    "embedded_extractor",
    "enough_for_modes",
    "expected_coverage",
    "expected_distinct",
    "frechet_distance",
    "frechet_distance_interval",
    "high_frequency_ratio",
    "is_conditional_mean",
    "judge_power",
    "kernel_distance",
    "kernel_distance_difference",
    "kernel_distance_interval",
    "kid_of_blur",
    "kl_bits",
    "latent_spectrum",
    "learned_distances",
    "linear_reconstructions",
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
    "paired_frechet_distance",
    "paired_kernel_distance",
    "perceptual_distance",
    "pixel_extractor",
    "pixel_judge",
    "pixel_statistics",
    "posterior_bits",
    "power_spectrum",
    "prdc",
    "prdc_intervals",
    "psnr",
    "ratio_difference",
    "reading_curve",
    "reading_height",
    "recogniser",
    "recognition",
    "sharpness",
    "similarities",
    "spectral_distance",
    "spectral_window",
    "ssim",
    "training_distances",
    "two_sample_test",
    "two_sample_test_of_pixels",
    "vendi_interval",
    "vendi_score",
    "worst_tenth",
]
