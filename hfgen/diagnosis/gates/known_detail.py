"""Detail that is the image's, and too strong or too weak: what a fixed filter after the decoder does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hfgen.diagnosis.gates.alignment import MISPLACED
from hfgen.diagnosis.gates.context import Context, brightness
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.gates.fourier import frequencies, transform
from hfgen.metrics import Estimate
from hfgen.metrics.intervals import bootstrap_of_means

_FAULT, _WARNING = 1.2, 1.1
_DETAIL, _KNOWN = 0.1, 0.8
# An under-trained decoder is a little too weak everywhere.
_LEAST_STRONG, _LEAST_WEAK = 0.02, 0.1


def known_detail(context: Context) -> Iterator[Finding]:
    """The gain of the finest half of what is known: frequencies with a squared coherence of Y and X above .8.

    Of a conditional mean, E[Y X*] / E|X|^2 is at most 1, and E[Y X*] / E|Y|^2 is 1: below, Y is weaker than what is
    known. Images that don't lie on each other have other gains.
    """
    if not context.reconstructs or context.broken("range", "constant", *MISPLACED):
        return
    made, real = (
        transform(brightness(part), context.window) for part in (context.correct(context.calibrated), context.inputs)
    )
    error = float((made - real).abs().square().mean(0).sum().clamp_min(1e-12))
    means = [(made * real.conj()).mean(0), made.abs().square().mean(0), real.abs().square().mean(0)]
    known, finer = _known(*means)
    if not known.any():
        return
    strong, weak = _shares(error, *(mean[known] for mean in means))
    made, real, product = made[:, finer], real[:, finer], means[0][finer]
    phase = (product / product.abs().clamp_min(1e-12)).conj()
    columns = [(made * real.conj() * phase).real, made.abs().square(), real.abs().square()]
    sums = torch.stack([column.sum(1) for column in columns], 1)
    gains = bootstrap_of_means(sums, _gains, seed=context.seed)
    yield _too_strong(gains[0], strong)
    yield _too_weak(gains[1], weak)


def _shares(error: float, product: Tensor, own: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Of the error: what is too strong, and what each frequency's best gain on Y would take away."""
    strong, weak = product.abs() / wanted - 1, product.abs() / own - 1
    return float((strong.square() * wanted).sum()) / error, float((weak.square() * own).sum()) / error


def _gains(means: Tensor) -> Tensor:
    """Of Y on X, and of X on Y, from means of their product and of both powers."""
    return means[..., :1] / means[..., [2, 1]].clamp_min(1e-12)


def _too_strong(gain: Estimate, share: float) -> Finding:
    return check(
        "over_sharpened",
        gain,
        "gain of the detail that reconstructions have in common with the originals; 1 is right",
        warning=_WARNING,
        fault=_FAULT,
        text="Reconstructions are sharper than the originals: their detail is right and too strong, and edges ring.",
        remedy="leave out the sharpening, or the resize by a filter with negative lobes (Lanczos, bicubic), after the "
        "decoder; in training, lower the weight of perceptual and adversarial terms",
        share=share,
        of="squared error",
        telling=share > _LEAST_STRONG,
    )


def _too_weak(gain: Estimate, share: float) -> Finding:
    return check(
        "attenuated",
        gain,
        "factor by which detail that the reconstructions hold would have to be strengthened",
        warning=_WARNING,
        fault=_FAULT,
        text="Reconstructions hold the detail and show it too weakly: a fixed filter blurs them after the decoder, or "
        "in its last layer.",
        remedy="look for a blur or a resize after the decoder; else train the decoder further (recipe "
        "vaegan-finetune-decoder)",
        share=share,
        of="squared error",
        telling=share > _LEAST_WEAK,
    )


def _known(product: Tensor, own: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Which bins (R, R) above .1 cycles/pixel have the coherence, and the finer half of them."""
    radius = frequencies(own.shape[-1])
    known = (radius > _DETAIL) & (product.abs().square() > _KNOWN * own * wanted)
    return known, known & (radius >= radius[known].median()) if known.any() else known
