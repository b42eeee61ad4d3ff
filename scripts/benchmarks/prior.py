"""How far a VQ-VAE's samples are from its reconstructions, beside the likelihood of its prior.

What separates the two is the prior alone: both are decoded from codes by one decoder. `NLL` is in nats a code, of
training and of held-out images; distances are of samples to the reconstructions of held-out images, by two judges.
Models that differ in how long the prior was trained show what likelihood explains.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.quality_rows import cell
from hfgen import metrics
from hfgen.errors import UserError
from hfgen.evaluation.real_images import NEIGHBOURS
from hfgen.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.evaluation.held_out import HeldOut

_NEIGHBOUR_METRICS = ("precision", "recall", "coverage")
_BATCH = 250


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="trained VQ-VAEs or VQGANs")
    parser.add_argument("--data", default="glyphs", help="as `hfgen evaluate` takes it (%(default)s)")
    parser.add_argument(
        "--n", type=int, default=2000, help="held-out images, and samples; half of them at most (%(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of prior.json and of the judge")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, write prior.json, return the exit code."""
    from benchmarks.independent_judge import independent_judge
    from hfgen.data import split_size
    from hfgen.evaluation.held_out import held_out_images
    from hfgen.pipelines import load

    pipelines: list[Any] = [load(model) for model in arguments.models]
    for model, pipeline in zip(arguments.models, pipelines, strict=True):
        _check(model, pipeline, pipelines[0])
    first = pipelines[0]
    # The independent judge is trained on the other half.
    _, there = split_size(arguments.data, "test")
    if arguments.n > (count := min(arguments.n, there // 2)):
        print(f"n: {count}, half of the {there} held-out images; the independent judge is trained on the others")
    own = held_out_images(
        arguments.data, n=count, resolution=first.sample_size, channels=first.channels, small_images="pad"
    )
    independent = independent_judge(own, arguments.out)
    names = ("model", "NLL, training", "NLL, held out", "KID", *_NEIGHBOUR_METRICS, "own judge: KID", "coverage")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    rows = {}
    for model, pipeline in zip(arguments.models, pipelines, strict=True):
        pipeline.set_progress_bar_config(disable=True)
        rows[model] = _row(pipeline, independent, own)
        print(f"| {' | '.join([model, *map(cell, rows[model].values())])} |", flush=True)
    write_json(
        arguments.out / "prior.json",
        {model: {name: value.as_dict() for name, value in row.items()} for model, row in rows.items()},
    )
    return 0


def _check(model: str, pipeline: Any, first: Any) -> None:
    """Refuse what the table would be wrong of."""
    if pipeline.codebook_size is None or getattr(pipeline, "prior", None) is None:
        raise UserError(f"model: {model} is a {pipeline.family}, which has no prior of codes; give a VQ-VAE")
    if pipeline.num_classes:
        raise UserError(f"model: {model} draws by class, and the likelihood is without one; give one without classes")
    sizes = [(one.sample_size, one.channels) for one in (pipeline, first)]
    if sizes[0] != sizes[1]:
        raise UserError(f"model: {model} has (px, channels) {sizes[0]}, the first one {sizes[1]}; compare equal ones")


def _row(pipeline: Any, independent: HeldOut, own: HeldOut) -> dict[str, metrics.Estimate]:
    from hfgen.evaluation.passes import encode, generate, reconstruct
    from hfgen.seeds import derive_seed

    training = own.training.gather(torch.arange(min(len(own.images), len(own.training))))
    found = {
        f"nll_{name}": metrics.bootstrap_mean(_nll(pipeline, encode(pipeline, images)["codes"]), seed=0)
        for name, images in (("training", training[:, : own.training.channels]), ("held_out", own.images))
    }
    samples = generate(pipeline, [derive_seed("sample", 0, index) for index in range(len(own.images))])
    again = reconstruct(pipeline, own.images)
    for name, judge, kept in (("independent", independent, _NEIGHBOUR_METRICS), ("own", own, ("coverage",))):
        real, made = judge.extractor.features(again), judge.extractor.features(samples)
        found[f"{name}_kid"] = metrics.kernel_distance_interval(real, made)
        near = metrics.prdc_intervals(real, made, NEIGHBOURS, seed=0)
        found.update({f"{name}_{metric}": near[metric] for metric in kept})
    return found


@torch.no_grad()
def _nll(pipeline: Any, codes: Tensor) -> Tensor:
    """Nats a code (n,) of codes (n, L), by the prior; only codes are drawn, no other tokens."""
    values = []
    for part in codes.split(_BATCH):
        start = torch.full_like(part[:, :1], pipeline.codebook_size)
        logits = pipeline.prior(input_ids=torch.cat([start, part[:, :-1]], 1)).logits[..., : pipeline.codebook_size]
        values.append(cross_entropy(logits.double().transpose(1, 2), part, reduction="none").mean(1))
    return torch.cat(values)
