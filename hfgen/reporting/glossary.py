"""What the metrics of a record are called on a page, and what they mean."""

from __future__ import annotations

import math
from typing import NamedTuple

_HIGHER, _LOWER, _REAL = "↑ higher is better", "↓ lower is better", "1 is as real"
_NONE, _CHANCE = "0 is none", "0.5 can't be told apart"
_TARGETS = {_HIGHER: math.inf, _LOWER: -math.inf, _REAL: 1.0, _NONE: 0.0, _CHANCE: 0.5}


class Metric(NamedTuple):
    """How a page calls a metric, which direction is better, and what it means."""

    label: str
    better: str
    meaning: str

    @property
    def target(self) -> float | None:
        """The best value, which may be infinite; None where no value is better than another."""
        return _TARGETS.get(self.better)


METRICS = {
    "hf_ratio_reconstruction": Metric(
        "High-frequency power, reconstructions",
        _REAL,
        "mean power of the brightness above 0.25 cycles per pixel over that of the same real images; "
        "below 1 is blur, above 1 noise or ringing",
    ),
    "hf_ratio_sample": Metric(
        "High-frequency power, samples",
        _REAL,
        "mean power of the brightness above 0.25 cycles per pixel of generated images over that of the held-out ones; "
        "below 1 is blur, above 1 noise or ringing",
    ),
    "averaging_identity": Metric(
        "Averaging identity",
        "1 is pure averaging",
        "(power of real - power of reconstruction) / power of the error, above 0.25 cycles per pixel; "
        "1 for a mean of all images that share a latent, and wherever hardly any power is left: judge by the gain",
    ),
    "gain_high": Metric(
        "Gain, reconstructions",
        "1 is a calibrated mean",
        "factor that would bring the reconstructions' detail above 0.25 cycles per pixel nearest to the real one; "
        "1 if they are the mean of what the model can't tell apart, above 1 if fainter, below 1 if detail is made up",
    ),
    "coherence_high": Metric(
        "Coherence, reconstructions",
        _HIGHER,
        "share of the real images' power above 0.25 cycles per pixel that follows from the reconstructions, at most 1",
    ),
    "psnr": Metric("PSNR (dB)", _HIGHER, "peak signal-to-noise ratio of reconstructions, peak 255"),
    "psnr_linear": Metric(
        "PSNR of principal components (dB)",
        "",
        "the same of as many principal components of training images as the latent has numbers: what a linear "
        "autoencoder reaches; a model below it is under-trained",
    ),
    "hf_ratio_linear": Metric(
        "High-frequency power, principal components", "", "of the same reconstructions, over that of the real images"
    ),
    "ssim": Metric("SSIM", _HIGHER, "structural similarity of reconstructions in windows of 11 x 11 pixels, at most 1"),
    "perceptual": Metric(
        "Perceptual distance",
        _LOWER,
        "1 - cosine of the features of a reconstruction and its original, in [0, 2]",
    ),
    **{
        f"{name}_worst": Metric(f"{label}, worst tenth", better, "the mean of the worst tenth of the images")
        for name, label, better in (
            ("psnr", "PSNR (dB)", _HIGHER),
            ("ssim", "SSIM", _HIGHER),
            ("ciede2000", "Colour difference", _LOWER),
            ("lpips", "LPIPS", _LOWER),
            ("dists", "DISTS", _LOWER),
        )
    },
    "lpips": Metric("LPIPS", _LOWER, "learned distance of a reconstruction from its original, by AlexNet (Zhang 2018)"),
    "dists": Metric("DISTS", _LOWER, "the same, which forgives texture of another sample, by VGG (Ding 2020)"),
    "fd_reconstruction": Metric(
        "Fréchet distance, reconstructions",
        _LOWER,
        "between Gaussians fitted to the features of the originals and of their reconstructions, freed of its bias",
    ),
    "rfid": Metric(
        "rFID",
        _LOWER,
        "the same in Inception's features with its bias, as papers print it; compare equal numbers of images",
    ),
    "kid_reconstruction": Metric(
        "KID, reconstructions",
        _LOWER,
        "squared kernel distance between the features of the originals and of their reconstructions; 0 if alike",
    ),
    "reading_height": Metric(
        "Reading height (px)",
        _LOWER,
        "smallest height of capitals of which 90 % that are read in drawn text are still read in its reconstruction",
    ),
    "ciede2000": Metric("Colour difference", _LOWER, "mean CIEDE2000 over pixels; about 1 is just noticeable"),
    "ciede2000_p95": Metric("Colour difference, 95th percentile", _LOWER, "of an image's pixels, averaged over images"),
    "bias_l": Metric("Lightness bias", _NONE, "mean of reconstruction - original in L* of CIELAB; above 0 is lighter"),
    "bias_a": Metric("Red-green bias", _NONE, "the same in a*; above 0 is redder, below greener"),
    "bias_b": Metric("Yellow-blue bias", _NONE, "the same in b*; above 0 is yellower, below bluer"),
    "saturation_ratio": Metric("Saturation", _REAL, "mean distance from grey in CIELAB, over that of the originals"),
    "clipped": Metric(
        "Clipped", _LOWER, "share of values at black or white in reconstructions and not in the originals"
    ),
    **{
        f"{name}_{channel}": Metric(
            f"{label}, {colour} chroma", better, f"{meaning}, of {channel.title()} at all frequencies"
        )
        for channel, colour in (("cb", "blue"), ("cr", "red"))
        for name, label, better, meaning in (
            ("coherence", "Coherence", _HIGHER, "share of the real power that follows from the reconstructions"),
            ("power", "Power", _REAL, "power of the reconstructions over that of the real images"),
            ("gain", "Gain", "1 is a calibrated mean", "factor that would bring the reconstructions nearest"),
        )
    },
    "kid": Metric(
        "KID",
        _LOWER,
        "squared kernel distance between the features of samples and of held-out images; 0 if alike",
    ),
    "kid_pixels": Metric(
        "KID, second judge",
        _LOWER,
        "the same between known statistics of pixels and spectra, none of them learnt",
    ),
    "fd": Metric(
        "Fréchet distance",
        _LOWER,
        "between Gaussians fitted to the features, freed of its bias; not FID, which has other features",
    ),
    "precision": Metric("Precision", _HIGHER, "share of samples that lie near a real image"),
    "recall": Metric("Recall", _HIGHER, "share of held-out images that lie near a sample, by the samples' spacing"),
    "density": Metric("Density", _REAL, "how many real neighbourhoods hold a sample, over the number expected"),
    "coverage": Metric("Coverage", _HIGHER, "share of held-out images with a sample in their neighbourhood"),
    "coverage_pixels": Metric("Coverage, second judge", _HIGHER, "the same by statistics of pixels and spectra"),
    "spectral_distance": Metric(
        "Spectral distance, samples", _LOWER, "difference of the logarithms of the power spectra, corners included"
    ),
    "spectral_distance_reconstruction": Metric(
        "Spectral distance, reconstructions", _LOWER, "the same of reconstructions and their originals"
    ),
    "ms_ssim": Metric("MS-SSIM", _HIGHER, "SSIM over five scales, at most 1"),
    "two_sample": Metric("Two-sample test", _CHANCE, "accuracy at telling samples from real images by their features"),
    "two_sample_pixels": Metric(
        "Two-sample test of pixels",
        _CHANCE,
        "the same by spectra, levels and edges instead of features",
    ),
    "training_distance": Metric(
        "Distance to training images",
        _REAL,
        "distance of samples to the nearest image of the whole train split over that of held-out images; "
        "near 0 is copies",
    ),
    "ndb": Metric(
        "NDB", _LOWER, "number of bins of the features that samples fill measurably otherwise than real images"
    ),
    "ndb_jsd": Metric("NDB, divergence", _LOWER, "Jensen-Shannon divergence between the bins' shares"),
    "modes": Metric("Modes", _HIGHER, "known classes that some recognised sample is of, at 26 samples a class or more"),
    "modes_seen": Metric(
        "Modes seen", _HIGHER, "known classes that some recognised sample is of; compare equal numbers of samples"
    ),
    "modes_rejected": Metric("Of no mode", _LOWER, "share of samples that are recognised as none; 0.05 of real images"),
    "modes_kl": Metric("Modes, KL", _LOWER, "how unevenly samples fill the known classes, in nats"),
    "rate_bits": Metric("Rate (bits)", "", "what the posterior says of an image beyond the prior"),
    "active_units": Metric("Active units", "", "latent numbers that depend on the image"),
    "codebook_perplexity": Metric("Codebook perplexity", _HIGHER, "how many codes an even use would need"),
    "codebook_usage": Metric("Codebook usage", _HIGHER, "share of the codes that are used"),
    **{
        f"{name}_ratio_{kind}": Metric(f"{label}, {kind}s", _REAL, f"{meaning}, over that of real images")
        for name, label, meaning in (
            ("laplacian_variance", "Variance of the Laplacian", "how strongly pixels differ from their neighbours"),
            ("tenengrad", "Tenengrad", "mean squared slope of the brightness"),
            ("blur_effect", "Blur effect", "how little a further blur changes; above 1 is blurrier"),
        )
        for kind in ("reconstruction", "sample")
    },
}

_GROUPS = {
    "Sharpness": "hf_ averaging_ gain_high coherence_high spectral_ laplacian_ tenengrad_ blur_",
    "Closeness to the original": "psnr ssim ms_ssim perceptual lpips dists reading_ fd_recon kid_recon rfid",
    "Colour": "ciede bias_ saturation_ clipped coherence_c power_c gain_c",
    "Variety of samples": "recall coverage ndb modes vendi",
    "Likeness of samples": "kid fd precision density two_sample training_",
    "Latent": "rate_ active_ codebook_",
}
_OTHERS = "Others"
GROUPS = (*_GROUPS, _OTHERS)
"""Headings of a table of metrics, in their order."""


def group_of(metric: str) -> str:
    """Under which of `GROUPS` a metric stands."""
    # The longest beginning counts: `kid_reconstruction` isn't of samples.
    begun = [
        (len(start), group) for group, starts in _GROUPS.items() for start in starts.split() if metric.startswith(start)
    ]
    return max(begun)[1] if begun else _OTHERS
