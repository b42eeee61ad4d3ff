"""`hfgen sample`: draw images from a model."""

from __future__ import annotations

import argparse

from hfgen.cli.options import Verbs, add_compute, add_model, add_picture, add_verb, at_least_one, save_grid
from hfgen.errors import ModelError


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "sample", run, "draw images from a model")
    add_model(verb)
    verb.add_argument("--n", type=int, default=64, help="how many images (%(default)s)")
    verb.add_argument("--seed", type=int, default=0, help="seed of the images (%(default)s)")
    add_picture(verb)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Save a grid of samples."""
    import torch

    import hfgen
    from hfgen.devices import choose
    from hfgen.images import unit_to_uint8
    from hfgen.pipelines.finite import check_images, counted, finite_outputs

    at_least_one(arguments.n)
    compute = choose(arguments.device, arguments.dtype)
    pipeline = hfgen.load(arguments.model, variant=arguments.variant, resolution=arguments.resolution)
    pipeline = compute.place(pipeline)
    if not pipeline.can_sample:
        raise ModelError(
            f"model: {arguments.model} is a {pipeline.family}, which draws nothing without a condition; "
            "use `hfgen reconstruct MODEL --data DATA`, or pipe(condition=images)"
        )
    generator = torch.Generator().manual_seed(arguments.seed)
    try:
        with compute.precise(), counted("sample", 0), finite_outputs(pipeline):
            images = pipeline(batch_size=arguments.n, generator=generator, output_type="pt").images
            check_images(images)
    except ValueError as error:
        raise ModelError(f"model: {arguments.model}: {error}") from None
    save_grid(unit_to_uint8(images), arguments.out)
