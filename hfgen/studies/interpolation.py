"""Does noise make the latent space interpolable, and samples diverse?"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.comparison.judges import BY_PIXELS
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Estimate
from hfgen.pipelines.autoencoder import codec_of
from hfgen.seeds import derive_seed
from hfgen.studies import shared_cells
from hfgen.studies.cells import Trained
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study, above_linear
from hfgen.studies.effects import difference, log_ratio, subtracted
from hfgen.studies.verdicts import KID, VENDI

_CELLS = {
    "autoencoder": shared_cells.NOISELESS,
    "VAE": shared_cells.L2,
    "VQ-VAE": shared_cells.CODES_256,
    "GAN": shared_cells.GAN,
    "ALI": shared_cells.ALI,
}
_TICKS = {name: name for name in _CELLS}
_STEPS = 4


@torch.no_grad()
def _measure(trained: Trained) -> dict[str, Estimate]:
    """How much farther from real images the middle of a path is than its ends, and how long the path."""
    start = _latents(trained)
    # Each with its neighbour: pairs of unrelated images.
    end = start.roll(1, 0)
    frames = [_images(trained, torch.lerp(start, end, step / _STEPS)) for step in range(_STEPS + 1)]
    features = [trained.features_of(frame) for frame in frames]
    lengths = torch.stack([(b - a).norm(dim=1) for a, b in itertools.pairwise(features)]).sum(0)
    direct = (features[-1] - features[0]).norm(dim=1)
    judges = {"": trained.judge, BY_PIXELS: trained.second_judge}
    return {
        **{name + by: found for by, judge in judges.items() for name, found in _judged(trained, frames, judge).items()},
        "recall" + BY_PIXELS: _recall(trained),
        "vendi_real": metrics.vendi_interval(trained.features, seed=0),
        "path_length": metrics.bootstrap_ratio(lengths, direct, seed=0, paired=True),
        "hf_ratio_middle": trained.sharpness(frames[_STEPS // 2], paired=False),
    }


def _judged(trained: Trained, frames: list[Tensor], judge: metrics.Extractor) -> dict[str, Estimate]:
    """By one judge: the middle's KID beyond the ends', 1 being what a slight blur adds to real images' KID; variety."""
    real, samples = judge.features(trained.evaluation.originals), judge.features(trained.samples)
    found = {"vendi_sample": metrics.vendi_interval(samples, seed=0)}
    unit = metrics.kid_of_blur(judge, real, trained.others)
    if unit > 0:
        ends, middle = (metrics.kernel_distance_interval(real, judge.features(frames[at])) for at in (0, _STEPS // 2))
        gap = subtracted(middle, ends)
        found["kid_middle_gap"] = Estimate(gap.value / unit, gap.low / unit, gap.high / unit, gap.n)
    return found


def _recall(trained: Trained) -> Estimate:
    """By the second judge; the first's is in the record."""
    judge = trained.second_judge
    real, samples = judge.features(trained.evaluation.originals), judge.features(trained.samples)
    return metrics.prdc_intervals(real, samples, seed=0)["recall"]


def _latents(trained: Trained) -> Tensor:
    """Of held-out images, where there is an encoder; else drawn."""
    network, originals = codec_of(trained.pipeline), trained.evaluation.originals
    if network is not None:
        return network.encode(to_float(originals)).mean
    generator = torch.Generator().manual_seed(derive_seed("interpolation", trained.config.seed))
    return torch.randn(len(originals), *trained.pipeline.latent_shape, generator=generator)


def _images(trained: Trained, latents: Tensor) -> Tensor:
    network = codec_of(trained.pipeline)
    if network is not None:
        return to_uint8(network.decode(latents))
    return to_uint8(trained.pipeline.gan(latents))


STUDY = Study(
    name="interpolation",
    question="What is the noise good for?",
    variable="an autoencoder without noise, with noise (VAE), with codes (VQ-VAE), GAN and ALI",
    metric="KID of images midway between two, beyond that of the ends; length of the path; recall, Vendi score",
    cells=_CELLS,
    claims=(
        Claim(
            "midway",
            "Noise on the latent makes it interpolable: midway between two images lies an image.",
            Contrast(
                "how much farther the autoencoder's middle falls from real images than the VAE's",
                difference("autoencoder", "VAE", "kid_middle_gap"),
                KID,
                "above",
                difference("autoencoder", "VAE", "kid_middle_gap" + BY_PIXELS),
            ),
            (above_linear("VAE"), above_linear("autoencoder")),
        ),
        Claim(
            "diverse",
            "Noise makes samples diverse.",
            Contrast(
                "how many more different images (the Vendi score's logarithm) samples of a VAE hold than those of an "
                "autoencoder whose latents were fitted afterwards",
                log_ratio("VAE", "autoencoder", "vendi_sample"),
                VENDI,
                "above",
                log_ratio("VAE", "autoencoder", "vendi_sample" + BY_PIXELS),
            ),
            (above_linear("VAE"), above_linear("autoencoder")),
            (
                Beside("its recall beyond the autoencoder's", difference("VAE", "autoencoder", "recall")),
                Beside("the same by pixels", difference("VAE", "autoencoder", "recall" + BY_PIXELS)),
            ),
        ),
    ),
    panels=(
        Panel("KID, middle minus ends (1: a slight blur)", "model", (Series("midway", "kid_middle_gap", _TICKS),), 0.0),
        Panel("length of the path over direct", "model", (Series("path", "path_length", _TICKS),)),
        Panel(
            "high-frequency power",
            "model",
            (
                Series("midway", "hf_ratio_middle", _TICKS),
                Series("samples", "hf_ratio_sample", _TICKS),
            ),
            1.0,
        ),
        Panel("share", "model", (Series("recall", "recall", _TICKS), Series("coverage", "coverage", _TICKS))),
        Panel(
            "Vendi score",
            "model",
            (Series("samples", "vendi_sample", _TICKS), Series("real images", "vendi_real", _TICKS)),
        ),
    ),
    measure=_measure,
)
