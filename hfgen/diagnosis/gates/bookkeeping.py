"""Whether encoder, codes, prior, classes and decoder mean the same by a number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context, squared_error
from hfgen.diagnosis.gates.findings import Finding, check
from hfgen.diagnosis.interventions import inputs_of
from hfgen.images import to_uint8
from hfgen.metrics.intervals import bootstrap_of_means, wilson
from hfgen.seeds import derive_seed

_TRUSTED, _PER_CLASS, _MOST = 0.8, 16, 320


def code_order(context: Context) -> Iterator[Finding]:
    """Images of an image's codes, taken from the codebook, against its reconstruction: they should be equal."""
    pipeline = context.pipeline
    if context.network is None or not hasattr(pipeline, "_decode_codes"):
        return
    few = inputs_of(context.network, context.few)
    with torch.no_grad():
        made = pipeline._decode_codes(pipeline.codes(few)).float().cpu()
    difference = squared_error(made, context.outputs[: len(made)])
    ratio = metrics.bootstrap_ratio(difference, context.errors[: len(made)], seed=context.seed, paired=True)
    yield check(
        "codes_mixed_up",
        ratio,
        "difference of what codes and latents decode to, over the squared error",
        warning=0.05,
        fault=0.2,
        text="Codes decode to other images than the latents that they stand for: their order or the codebook differs.",
        remedy="save the codebook and the decoder of one checkpoint; check that codes are laid out row by row",
        share=ratio.value,
        of="squared error",
    )


def prior_of_codes(context: Context) -> Iterator[Finding]:
    """What the prior knows of held-out codes: at least their frequencies, and more in their own order."""
    pipeline = context.pipeline
    prior = getattr(pipeline, "prior", None)
    if prior is None or context.network is None or not pipeline.codebook_size:
        return
    codes = pipeline.codes(inputs_of(context.network, context.real)).cpu()
    bits = _bits(pipeline, codes, context)
    counts = torch.bincount(codes.flatten(), minlength=pipeline.codebook_size).double()
    shares = counts / counts.sum()
    # Plug-in entropy is too low by (K - 1) / 2N nats (Miller 1955).
    bias = float((counts > 0).sum() - 1) / (2 * counts.sum()) / math.log(2)
    plain = -shares.clamp_min(1e-12).log2()[codes].mean(1) + bias
    excess = metrics.bootstrap_mean(bits - plain, seed=context.seed)
    yield check(
        "prior",
        excess,
        "bits that the prior takes for a held-out code beyond what the codes' frequencies alone would",
        warning=0.0,
        fault=0.1,
        text="The prior predicts codes worse than their frequencies do: it is untrained, or of another codebook.",
        remedy=f"train the prior again on this codebook: hfgen train {pipeline.family}-glyphs --data {context.data}",
    )
    side = math.isqrt(codes.shape[1])
    if side**2 == codes.shape[1]:
        turned = _bits(pipeline, codes.unflatten(1, (side, side)).mT.flatten(1), context)
        yield check(
            "codes_transposed",
            metrics.bootstrap_mean(bits - turned, seed=context.seed),
            "bits a code that the prior saves when rows and columns are exchanged",
            warning=0.02,
            fault=0.05,
            text="The prior expects codes column by column and is given rows.",
            remedy="flatten codes in the order in which the prior was trained",
        )


@torch.no_grad()
def _bits(pipeline: Any, codes: Tensor, context: Context) -> Tensor:
    """Mean bits a code of each image (N,), from the start of an image without a class."""
    size, device = pipeline.codebook_size, pipeline.device
    starts = torch.full((len(codes), 1), size)
    labels = context.held_out.labels if context.held_out is not None else None
    if pipeline.num_classes and labels is not None:
        known = labels[: len(codes)].long()
        starts = torch.where((known >= 0) & (known < pipeline.num_classes), size + 1 + known, size)[:, None]
    found = []
    for part, start in zip(codes.split(context.batch), starts.split(context.batch), strict=True):
        logits = pipeline.prior(input_ids=torch.cat([start, part[:, :-1]], 1).to(device)).logits[..., :size].float()
        nats = cross_entropy(logits.cpu().flatten(0, 1), part.flatten(), reduction="none")
        found.append(nats.double().unflatten(0, part.shape).mean(1) / math.log(2))
    return torch.cat(found)


def prior_of_latents(context: Context) -> Iterator[Finding]:
    """Means and deviations of the latents that are drawn against those of the images' own, number by number."""
    pipeline = context.pipeline
    if context.network is None or not getattr(pipeline, "can_sample", False) or pipeline.codebook_size:
        return
    mean = context.latents.mean
    if context.latents.log_variance is None:
        return
    generator = torch.Generator().manual_seed(derive_seed("prior", context.seed))
    own = context.drawn("prior").double().flatten(1)
    drawn = torch.randn((4 * len(own), *mean.shape[1:]), generator=generator)
    if (prior := getattr(pipeline, "prior", None)) is not None:
        drawn = prior.sample(torch.rand(len(drawn), generator=generator), drawn.to(prior.device)).cpu()
    drawn = drawn.double().flatten(1)
    centre, variance = drawn.mean(0), drawn.var(0).clamp_min(1e-12)
    numbers = own.shape[1]

    def statistic(means: Tensor) -> Tensor:
        first, second = means.split(numbers, 1)
        ratio = (second - first.square()).clamp_min(1e-12) / variance
        nats = 0.5 * (ratio - 1 - ratio.log() + (first - centre).square() / variance)
        return nats.mean(1, keepdim=True)

    (nats,) = bootstrap_of_means(torch.cat([own, own.square()], 1), statistic, seed=context.seed)
    # Of few images the moments themselves are uncertain: about 1/n nats a number, which is no fault.
    chance = 1.5 / len(own)
    yield check(
        "prior",
        metrics.Estimate(nats.value - chance, nats.low - 2 * chance, nats.high - chance, nats.n),
        "divergence of the latents' means and deviations from the prior's, in nats a number",
        warning=0.15,
        fault=0.5,
        text="Images are drawn from latents that the encoder never gives: means and deviations differ.",
        remedy=f"fit a prior to the latents: train {pipeline.family} with the run's own settings, --start_from "
        f"{context.model} and --model.prior mixture",
    )


def classes(context: Context) -> Iterator[Finding]:
    """Whether samples of a class are of that class, by the judge of the data."""
    pipeline, held_out = context.pipeline, context.held_out
    count = getattr(pipeline, "num_classes", 0)
    judge = held_out.extractor if held_out is not None else None
    if not count or judge is None or judge.mode_counts is None or (judge.accuracy or 0) < _TRUSTED:
        return
    if len(judge.mode_counts) != count:
        return
    each = max(1, min(_PER_CLASS, _MOST // count))
    wanted = torch.arange(count).repeat_interleave(each)
    generators = [torch.Generator().manual_seed(derive_seed("class", context.seed, i)) for i in range(len(wanted))]
    with torch.no_grad():
        images = pipeline(len(wanted), generators, output_type="pt", class_labels=wanted.tolist()).images
    seen = judge.modes(to_uint8(images.cpu() * 2 - 1))
    wrong = wilson(float((seen != wanted).double().mean()), len(wanted))
    # The classes that most samples of each class are taken for: a permutation says that labels were mixed up.
    taken = torch.stack([torch.bincount(seen[wanted == k], minlength=count) for k in range(count)])
    mixed = taken.argmax(1)
    exchanged = len(mixed.unique()) == count and bool((mixed != torch.arange(count)).any())
    moved = "; labels are permuted between data and model" if exchanged else ""
    expected = 1 - float(judge.accuracy or 0)
    yield check(
        "classes_mixed_up",
        wrong,
        "share of the samples of a class that the judge takes for another",
        warning=0.3 + expected,
        fault=0.6 + expected,
        text=f"Samples aren't of the class that is asked for{moved}.",
        remedy="check that labels are numbered alike in training and here"
        if exchanged
        else f"train longer with labels (--max_images), or with --model.guidance: hfgen train {pipeline.family}-glyphs",
    )
