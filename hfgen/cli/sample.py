"""`hfgen sample`: draw images from a model."""

from __future__ import annotations

import argparse

from hfgen.cli.options import (
    Verbs,
    add_compute,
    add_model,
    add_picture,
    add_seed,
    add_steps,
    add_verb,
    at_least_one,
    check_grid,
    making_images,
    open_model,
    save_grid,
)
from hfgen.errors import ModelError


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "sample", run, "draw images from a model")
    add_model(verb)
    verb.add_argument("--n", type=int, default=64, help="how many images (%(default)s)")
    add_seed(verb, "seed of the images")
    add_steps(verb)
    add_picture(verb)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Save a grid of samples."""
    at_least_one(arguments.n)
    pipeline, compute = open_model(arguments)
    import torch

    from hfgen.evaluation.passes import batch_size
    from hfgen.images import unit_to_uint8
    from hfgen.pipelines.finite import check_images, counted

    if not pipeline.can_sample:
        article, remedy = ("a", ", or pipe(condition=images)") if pipeline.translates else ("an", "")
        needs = "a condition" if pipeline.translates else "a prior"
        raise ModelError(
            f"model: {arguments.model} is {article} {pipeline.family}, which draws nothing without {needs}; "
            f"use `hfgen reconstruct MODEL --data DATA`{remedy}"
        )
    check_grid(arguments.out, arguments.n, pipeline.sample_size, pipeline.channels)
    generator, images = torch.Generator().manual_seed(arguments.seed), []
    with making_images(arguments.model, pipeline, compute, "sample"):
        for start in range(0, arguments.n, size := batch_size(pipeline.sample_size)):
            count = min(size, arguments.n - start)
            with counted("sample", start):
                made = pipeline(batch_size=count, generator=generator, output_type="pt").images
                check_images(made)
            images.append(unit_to_uint8(made))
    save_grid(torch.cat(images), arguments.out)
