"""`hfgen reconstruct`: images above their reconstructions."""

from __future__ import annotations

import argparse

from hfgen.cli.options import (
    Verbs,
    add_compute,
    add_data,
    add_model,
    add_picture,
    add_split,
    add_verb,
    at_least_one,
    columns,
    making_images,
    open_model,
    save_grid,
)
from hfgen.errors import ModelError


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "reconstruct", run, "show images above their reconstructions")
    add_model(verb)
    verb.add_argument("--n", type=int, default=32, help="how many images (%(default)s)")
    add_picture(verb)
    add_data(verb)
    add_split(verb)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Save a grid: rows of images, and under each its reconstruction."""
    import torch

    from hfgen.data import batch_indices, open_store
    from hfgen.images import to_float, unit_to_uint8
    from hfgen.pipelines.finite import check_images

    at_least_one(arguments.n)
    pipeline, compute = open_model(arguments)
    if not pipeline.can_reconstruct:
        raise ModelError(f"model: {arguments.model} is a {pipeline.family} without encoder; give a VAE or a VQ-VAE")
    store = open_store(
        arguments.data,
        split=arguments.split,
        resolution=pipeline.sample_size,
        channels=pipeline.channels,
        small_images=arguments.small_images,
        skip_damaged=arguments.skip_damaged,
        condition=pipeline.paired_with,
        **columns(arguments),
    )
    inputs = store.images[batch_indices(len(store), 0, min(arguments.n, len(store)), 0)]
    originals = inputs[:, : store.channels]
    with making_images(arguments.model, pipeline, compute, "image"):
        output = pipeline.reconstruct(to_float(inputs), output_type="pt").images
        check_images(output)
    rows = [row for pair in zip(originals.split(8), unit_to_uint8(output).split(8), strict=True) for row in pair]
    save_grid(torch.cat(rows), arguments.out)
