"""One frozen latent, several decoders: what does each objective make of the same information?

A conditional GAN with noise isn't among them: no family trains one of a latent. Decoders with L2 and PatchGAN begin
with the weights of the VAE's own; the flow's U-Net, another network, with random ones. Of training, an image costs the
flow 4.8 ms of one core, L2 1.8 and L2 + PatchGAN 2.7 (`time.process_time` of 2,560 images on a CPU, medians of three
rounds, of L2 the mean of two warm ones): at equal compute these see 2.7 and 1.75 times as many images.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Estimate
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.autoencoder import codec_of
from hfgen.seeds import derive_seed
from hfgen.studies import shared_cells
from hfgen.studies.cells import Cell, Trained
from hfgen.studies.claims import Beside, Claim, Contrast, Panel, Series, Study, above_linear, crisp
from hfgen.studies.effects import by_image, power_difference, psnr_difference, value
from hfgen.studies.verdicts import OWN_POWER, POWER, PSNR

# Of the images seen by the VAE.
_PART = 0.5
_FROZEN = (*shared_cells.L2.overrides, "--model.freeze_encoder=true")
_CELLS = {
    "VAE": shared_cells.L2,
    "L2": Cell("vae", _FROZEN, part=_PART, start=shared_cells.L2),
    "L2 + PatchGAN": Cell(
        "vaegan",
        (*_FROZEN, *shared_cells.ADVERSARY, "--model.adversarial_begin=0"),
        part=_PART,
        start=shared_cells.L2,
    ),
    "flow": Cell("flow", _FROZEN, part=_PART, start=shared_cells.L2),
}
_TICKS = {name: name for name in _CELLS}
_TRAINED = {name: name for name, cell in _CELLS.items() if cell.start is not None}
# Two draws each of so many held-out images; a flow takes many passes for one.
_DRAWN = 250


@torch.no_grad()
def _measure(trained: Trained) -> dict[str, Estimate]:
    """The detail that is the image's own, what a decoder draws at one latent, and what the encoder says of its output.

    Of a draw x' from p(x | z), two draws differ as much as one and the image, in expectation: given z, the image is a
    draw as well.
    """
    encoder, real = trained.pipeline.vae, trained.evaluation.originals
    power = metrics.power_spectrum(real, trained.window).high
    posterior = encoder.encode(to_float(real)).latent_dist
    generator = torch.Generator().manual_seed(derive_seed("latent", trained.config.seed))
    samples = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    first, second = (_decoded(trained.pipeline, samples[:_DRAWN], generator) for _ in range(2))
    between, beside = _differences(trained, first, second)
    again = encoder.encode(to_float(trained.reconstructions)).latent_dist.mean
    seconds = _seconds(trained)
    return {
        "own_power": _ratio(_own(trained), power),
        "hf_between_draws": _ratio(between, power[:_DRAWN]),
        "hf_draw_to_image": _ratio(beside, power[:_DRAWN]),
        "hf_gap_of_draws": _ratio(between - beside, power[:_DRAWN]),
        "reencoding_error": _ratio(_squares(again - posterior.mean), _squares(posterior.mean - posterior.mean.mean(0))),
        "training_seconds": Estimate(seconds, seconds, seconds, trained.config.max_images),
    }


def _differences(trained: Trained, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Of two draws for the first held-out images, and of the image and one; above .25 cycles per pixel, (N,)."""
    real = trained.evaluation.originals[: len(first)]
    pairs = (first, second), (real, first)
    between, beside = (metrics.band_measures(*pair, trained.window).error.high for pair in pairs)
    return between, beside


def _own(trained: Trained) -> Tensor:
    """<x, r> above .25 cycles per pixel, (N,): for r = E[x | z] and for draws, the power of E[x | z] in expectation."""
    return metrics.band_measures(trained.evaluation.originals, trained.reconstructions, trained.window).product.high


def _own_gained(first: Trained, second: Trained) -> Estimate:
    power = metrics.power_spectrum(first.evaluation.originals, first.window).high
    return _ratio(_own(first) - _own(second), power)


def _ratio(numerator: Tensor, denominator: Tensor) -> Estimate:
    return metrics.bootstrap_ratio(numerator, denominator, seed=0, paired=True)


def _squares(latents: Tensor) -> Tensor:
    return latents.double().square().flatten(1).sum(1)


def _decoded(pipeline: ImagePipeline, latents: Tensor, generator: torch.Generator) -> Tensor:
    """A decoder's output, or a draw where it begins with noise; uint8."""
    network = codec_of(pipeline)
    if network is not None:
        return to_uint8(network.decode(latents))
    noise = torch.randn(len(latents), pipeline.channels, *[pipeline.sample_size] * 2, generator=generator)
    return to_uint8(pipeline.flow(latents, noise))


def _seconds(trained: Trained) -> float:
    """Of training, by the clock: what else the machine did then counts too."""
    lines = (trained.folder / "speed.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["seconds"] for line in lines)


_FLOW_CRISP = crisp("flow", "hf_ratio_reconstruction")

STUDY = Study(
    name="latent",
    question="What do four decoders make of one latent?",
    variable="the objective of a decoder, on the frozen latent of 16 numbers of one VAE a seed",
    metric="high-frequency power, own and drawn, PSNR, re-encoding error; seconds of training",
    cells={
        **_CELLS,
        "L2, equal compute": _CELLS["L2"]._replace(part=2.7 * _PART),
        "L2 + PatchGAN, equal compute": _CELLS["L2 + PatchGAN"]._replace(part=1.75 * _PART),
    },
    claims=(
        Claim(
            "crisp",
            "A flow decoder is crisp without an adversary: of the same latent it makes more detail than L2.",
            Contrast(
                "the power that flow matching adds to L2",
                power_difference("flow", "L2"),
                POWER,
                "above",
            ),
            (above_linear("L2"),),
            (
                Beside("its power", value("flow", "hf_ratio_reconstruction")),
                Beside("its gain", value("flow", "gain_high")),
                Beside("that of the decoder with an adversary", value("L2 + PatchGAN", "hf_ratio_reconstruction")),
            ),
        ),
        Claim(
            "price",
            "Crispness without an adversary is paid with error, too.",
            Contrast(
                "the dB that flow matching costs",
                psnr_difference("L2", "flow"),
                PSNR,
                "above",
            ),
            (_FLOW_CRISP, above_linear("L2")),
            (Beside("the dB that an adversary costs", psnr_difference("L2", "L2 + PatchGAN")),),
        ),
        Claim(
            "adversary",
            "What an adversary brings isn't another latent: of the same one, the same decoder becomes crisper.",
            Contrast(
                "the power that an adversary adds to L2, behind a frozen encoder",
                power_difference("L2 + PatchGAN", "L2"),
                POWER,
                "above",
            ),
            (crisp("L2 + PatchGAN", "hf_ratio_reconstruction"), above_linear("L2")),
        ),
        Claim(
            "own",
            "What flow matching adds is drawn, not read: of the image's own detail it brings as much as L2.",
            Contrast(
                "the image's own power that flow matching adds to L2",
                by_image("flow", "L2", "own_power", _own_gained),
                OWN_POWER,
                "within",
            ),
            (_FLOW_CRISP, above_linear("L2")),
            (
                Beside("the own power of L2", value("L2", "own_power")),
                Beside("that with an adversary", value("L2 + PatchGAN", "own_power")),
            ),
        ),
        Claim(
            "draws",
            "A flow decoder draws what its latent leaves open: two draws differ as much as a draw and the image.",
            Contrast(
                "the power of the difference of two draws beyond that of the difference of a draw and the image",
                value("flow", "hf_gap_of_draws"),
                POWER,
                "within",
            ),
            (),
            (
                Beside("the power of the difference of two draws", value("flow", "hf_between_draws")),
                Beside("that of a draw and the image", value("flow", "hf_draw_to_image")),
            ),
        ),
    ),
    panels=(
        Panel(
            "high-frequency power",
            "decoder",
            (
                Series("reconstructions", "hf_ratio_reconstruction", _TICKS),
                Series("the image's own", "own_power", _TICKS),
                Series("two draws' difference", "hf_between_draws", _TICKS),
            ),
            1.0,
        ),
        Panel("PSNR of reconstructions, dB", "decoder", (Series("reconstructions", "psnr", _TICKS),)),
        Panel(
            "above .25 cycles per pixel",
            "decoder",
            (Series("gain", "gain_high", _TICKS), Series("coherence", "coherence_high", _TICKS)),
            1.0,
        ),
        Panel("KID of reconstructions", "decoder", (Series("reconstructions", "kid_reconstruction", _TICKS),)),
        Panel("re-encoding error, of z's variance", "decoder", (Series("error", "reencoding_error", _TICKS),)),
        Panel("seconds of training", "decoder", (Series("training", "training_seconds", _TRAINED),)),
    ),
    again={"equal compute": {"L2": "L2, equal compute", "L2 + PatchGAN": "L2 + PatchGAN, equal compute"}},
    measure=_measure,
)
