"""Reconstructions against their originals: what of each image is lost, by pixels, bands, colour and features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

from torch import Tensor

from hfgen import metrics
from hfgen.evaluation.real_images import RealImages
from hfgen.evaluation.set_metrics import sharpness_ratios
from hfgen.metrics import Estimate

PAIRS = ("psnr", "ssim", "ms_ssim", "perceptual", "ciede2000", "clipped", "lpips", "dists")
"""Columns of the dataset: numbers of each pair."""

_MS_SSIM_SIDE = 176
# Of which the worst tenth is shown beside the mean, and whether high numbers are the bad ones.
_WORST = {"psnr": False, "ssim": False, "ciede2000": True, "lpips": True, "dists": True}


@dataclass
class Pairs:
    """`columns`: numbers of each pair (n,), by name. `bands`: of each ring of the spectrum, by name."""

    columns: dict[str, Tensor] = field(default_factory=dict)
    bands: dict[str, list[float]] = field(default_factory=dict)


def pair_metrics(found: metrics.Collector, real: RealImages, images: Tensor, seed: int) -> Pairs:
    """Measure uint8 reconstructions (n, C, R, R) of `real.images`, in their order."""
    pairs = Pairs()

    @cache
    def features() -> Tensor:
        return real.extractor.features(images)

    add_scores(found, pairs, _pixel_scores(real, images), seed)
    distance = lambda: metrics.perceptual_distance(real.features, features())  # noqa: E731
    add_scores(found, pairs, {"perceptual": distance, **metrics.learned_distances(real.images, images, found)}, seed)
    found.add("kid_reconstruction", lambda: metrics.paired_kernel_distance(real.features, features()))
    found.add("fd_reconstruction", lambda: _frechet(real, features(), seed))
    if real.images.shape[1] == 3:
        add_colour(found, pairs, lambda: metrics.colour_errors(real.images, images), seed)
    sharpness_ratios(found, real, images, "reconstruction", seed)
    _bands(found, pairs, real, images, seed)
    return pairs


def _pixel_scores(real: RealImages, images: Tensor) -> dict[str, Callable[[], Tensor]]:
    both = cache(lambda: metrics.similarities(real.images, images, 255))
    if images.shape[-1] >= _MS_SSIM_SIDE:
        similarities = {"ssim": lambda: both()["ssim"], "ms_ssim": lambda: both()["ms_ssim"]}
    else:
        similarities = {"ssim": lambda: metrics.ssim(real.images, images, 255)}
    return {
        "psnr": lambda: metrics.capped_psnr(real.images, images),
        **similarities,
        "clipped": lambda: metrics.clipped(real.images, images),
    }


def add_scores(found: metrics.Collector, pairs: Pairs, scores: dict[str, Callable[[], Tensor]], seed: int) -> None:
    """Their means, and of some the mean of the worst tenth."""

    def mean(name: str) -> Estimate:
        pairs.columns[name] = scores[name]().double()
        return metrics.bootstrap_mean(pairs.columns[name], seed=seed)

    for name in scores:
        found.add(name, partial(mean, name))
        if name in _WORST and name in found.estimates:
            found.add(f"{name}_worst", partial(metrics.worst_tenth, pairs.columns[name], highest=_WORST[name]))


def _frechet(real: RealImages, features: Tensor, seed: int) -> dict[str, Estimate]:
    """Without bias, and in Inception's features the plug-in value as well, which papers call rFID."""
    distance, plug_in = metrics.paired_frechet_distance(real.features, features, seed=seed)
    is_inception = isinstance(real.extractor, metrics.InceptionExtractor)
    return {"fd_reconstruction": distance, **({"rfid": plug_in} if is_inception else {})}


def add_colour(found: metrics.Collector, pairs: Pairs, measure: Callable[[], dict[str, Tensor]], seed: int) -> None:
    """Colour errors, as `hfgen.metrics.colour_errors` gives them."""
    errors: dict[str, Tensor] = {}

    def measured() -> dict[str, Estimate]:
        errors.update(measure())
        names = ("ciede2000", "ciede2000_p95", "bias_l", "bias_a", "bias_b")
        return {name: metrics.bootstrap_mean(errors[name], seed=seed) for name in names}

    found.add("ciede2000", measured)
    if "ciede2000" not in found.estimates:
        return
    pairs.columns["ciede2000"] = errors["ciede2000"]
    found.add("ciede2000_worst", lambda: metrics.worst_tenth(errors["ciede2000"], highest=True))
    chroma = errors["chroma_reconstruction"], errors["chroma_real"]
    found.add("saturation_ratio", lambda: metrics.bootstrap_ratio(*chroma, seed=seed, paired=True))


def _bands(found: metrics.Collector, pairs: Pairs, real: RealImages, images: Tensor, seed: int) -> None:
    """Whether reconstructions are means of what the model can't tell apart; gain, coherence and power of each ring."""
    measures = metrics.band_measures(real.images, images, real.window)
    spectrum = measures.reconstruction
    pairs.bands["reconstruction"] = spectrum.bands.mean(0).tolist()
    power = spectrum.high, real.spectrum.high
    found.add("hf_ratio_reconstruction", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=True))
    found.add(
        "spectral_distance_reconstruction", lambda: metrics.spectral_distance(real.spectrum, spectrum, paired=True)
    )

    def high() -> dict[str, Estimate]:
        band = measures.estimates(seed=seed)["high"]
        return {"gain_high": band.gain, "coherence_high": band.coherence}

    found.add("gain_high, coherence_high", high)
    found.add("averaging_identity", lambda: measures.averaging_identity().estimates(seed=seed)["high"])
    if "gain_high" in found.estimates:
        rings = measures.ring_estimates(seed=seed)
        for name in ("gain", "coherence", "power"):
            pairs.bands[name] = [getattr(ring, name).value for ring in rings]
    if real.images.shape[1] == 3:
        _chroma_bands(found, pairs, real, images, seed)


def _chroma_bands(found: metrics.Collector, pairs: Pairs, real: RealImages, images: Tensor, seed: int) -> None:
    """The same of the two chroma channels, over all frequencies and ring by ring."""
    for channel, measures in metrics.chroma_measures(real.images, images, real.window).items():

        def kept(channel: str = channel, measures: metrics.BandMeasures = measures) -> dict[str, Estimate]:
            estimates = measures.kept(*real.images.shape[2:], seed=seed)
            return {f"{name}_{channel}": estimate for name, estimate in estimates.items()}

        found.add(f"coherence_{channel}", kept)
        if f"coherence_{channel}" in found.estimates:
            for name, values in measures.rings().items():
                pairs.bands[f"{name}_{channel}"] = values


def linear_metrics(
    found: metrics.Collector, real: RealImages, psnr: Tensor, numbers: int, seed: int
) -> dict[str, Estimate]:
    """What so many principal components of training images do; a note where the autoencoder does less."""
    metrics.check_components(real.others, numbers)
    images = metrics.linear_reconstructions(real.others, real.images, numbers, seed)
    power = metrics.power_spectrum(images, real.window).high
    scores = metrics.capped_psnr(real.images, images).double()
    if (gap := metrics.bootstrap_mean(psnr - scores, seed=seed)).high < 0:
        found.note(
            f"under-trained: its reconstructions are {-gap.value:.2f} dB below those of {numbers} principal components "
            "of training images, which need as many numbers; its blur says nothing about its latent",
            of="psnr_linear, hf_ratio_linear",
        )
    return {
        "psnr_linear": metrics.bootstrap_mean(scores, seed=seed),
        "hf_ratio_linear": metrics.bootstrap_ratio(power, real.spectrum.high, seed=seed, paired=True),
    }
