"""Samples that are alike, copied, of another brightness, or of few kinds."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.metrics import Estimate

_SHARP = 0.7


def samples(context: Context) -> Iterator[Finding]:
    """What can be told of a set of samples without any cause of blur; after what all of them follow from, nothing."""
    if context.samples is None or context.broken("prior", "constant"):
        return
    yield _alike(context, context.samples)
    yield _brightness(context, context.samples)
    if _are_sharp(context):
        yield from _by_features(context)


def _are_sharp(context: Context) -> bool:
    """By their features, blurred samples are like each other, and near no real image."""
    assert context.samples is not None, "only of models that draw"
    made, real = (metrics.power_spectrum(part, context.window).high for part in (context.samples, context.images))
    return float(made.mean()) >= _SHARP * float(real.mean())


def _by_features(context: Context) -> Iterator[Finding]:
    found = context.variety
    if "duplicates" in found:
        yield check(
            "duplicates",
            found["duplicates"],
            "share of the samples that are near-duplicates of others, of which real images have .01",
            warning=0.1,
            fault=0.3,
            text="Samples repeat each other: the generator has collapsed onto few images.",
            remedy="of a GAN: raise --model.penalty, set --model.minibatch_std or take --model.loss relativistic; "
            "train again from the start",
            share=found["duplicates"].value,
            of="samples",
        )
    if "training_distance" in found:
        ratio = found["training_distance"]
        yield check(
            "copies",
            Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low, ratio.n),
            "how much nearer samples lie to training images than new images do, as a share of the distance",
            warning=0.3,
            fault=0.6,
            text="Samples are copies of training images.",
            remedy="add training images, or augment them (of a GAN: --model.augment), or train for fewer --max_images",
        )
    yield from _coverage(context)


def _alike(context: Context, images: Tensor) -> Finding:
    # A model whose reconstructions are alike can't draw others.
    of = "reconstructions" if context.reconstructs else "real images"
    wanted = context.reconstructions if context.reconstructs else context.images
    ratio = metrics.bootstrap_ratio(*map(_spread, (images, wanted)), seed=context.seed, paired=False)
    return check(
        "collapsed",
        Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low, ratio.n),
        f"share of the variance between {of} that samples don't have",
        warning=0.5,
        fault=0.8,
        text="Samples are nearly one and the same image.",
        remedy="train again from the start, with more --model.penalty (a GAN) or a lower --model.kl_weight (a VAE)",
        share=1 - ratio.value,
        of="variance between images",
    )


def _spread(images: Tensor) -> Tensor:
    values = images.double() / 255
    return (values - values.mean(0)).square().flatten(1).mean(1)


def _brightness(context: Context, images: Tensor) -> Finding:
    made, real = (part.double().flatten(1).mean(1) for part in (images, context.images))
    value = float(made.mean() - real.mean())
    error = float((made.var() / len(made) + real.var() / len(real)).sqrt())
    sizes = sorted(abs(value + step * error) for step in (-1.96, 1.96))
    low = 0.0 if abs(value) < 1.96 * error else sizes[0]
    return check(
        "sample_brightness",
        Estimate(abs(value), low, sizes[1], len(made)),
        "difference of the mean brightness of samples and real images, in levels of 255",
        warning=10.0,
        fault=25.0,
        text=f"Samples are {'brighter' if value > 0 else 'darker'} than real images on average.",
        remedy="check the range of images, and the scale on which latents are drawn (scaling_factor)",
    )


def _coverage(context: Context) -> Iterator[Finding]:
    if "coverage" not in context.variety or "coverage" not in context.baseline:
        return
    full, own = context.baseline["coverage"].value, context.variety["coverage"]
    if full <= 0:
        return
    left_out = [1 - value / full for value in (own.value, own.high, own.low)]
    yield check(
        "coverage",
        Estimate(left_out[0], min(left_out[1], left_out[0]), max(left_out[2], left_out[0]), own.n),
        "share of the real images, of those that other real images are near to, which no sample is near to",
        warning=0.3,
        fault=0.5,
        text="Samples are sharp and unlike most real images: kinds are missing, or no sample is quite real.",
        remedy=f"hfgen train {context.recipe} --data {context.data} with more --max_images; of a GAN a stronger "
        "recipe (gan-r3-*)",
        share=left_out[0],
        of="real images",
    )
