"""`hfgen reconstruct`: images above their reconstructions."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from hfgen.cli.options import (
    COLUMNS,
    Verbs,
    add_compute,
    add_crop,
    add_data,
    add_model,
    add_picture,
    add_split,
    add_steps,
    add_tile,
    add_verb,
    at_least_one,
    check_grid,
    columns,
    making_images,
    open_model,
    save_grid,
)
from hfgen.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.devices import Compute
    from hfgen.pipelines import ImagePipeline

logger = logging.getLogger("hfgen")


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "reconstruct", run, "show images above their reconstructions")
    add_model(verb)
    verb.add_argument("--n", type=int, default=32, help="how many images (%(default)s)")
    add_steps(verb)
    add_picture(verb)
    add_data(verb)
    add_split(verb)
    add_crop(verb)
    add_tile(verb)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Save a picture: rows of images, and under each, or beside it with its own shape, its reconstruction."""
    from hfgen.data import found_once

    at_least_one(arguments.n)
    if arguments.crop == "none" and arguments.resolution is not None:
        raise SettingsError("resolution: images keep their own shapes with --crop none; leave one of them out")
    pipeline, compute = open_model(arguments)
    if not pipeline.can_reconstruct:
        raise ModelError(f"model: {arguments.model} is a {pipeline.family} without encoder; give a VAE or a VQ-VAE")
    with found_once():
        (_run_whole if arguments.crop == "none" else _run_squares)(arguments, pipeline, compute)


def _run_squares(arguments: argparse.Namespace, pipeline: ImagePipeline, compute: Compute) -> None:
    import torch

    from hfgen.data import batch_indices, open_store
    from hfgen.evaluation.passes import reconstruct
    from hfgen.pipelines.given import chosen_channels

    store = open_store(
        arguments.data,
        split=arguments.split,
        resolution=pipeline.sample_size,
        channels=chosen_channels(pipeline, "auto", arguments.data),
        small_images=arguments.small_images,
        skip_damaged=arguments.skip_damaged,
        condition=pipeline.paired_with,
        **columns(arguments),
    )
    inputs = store.images[batch_indices(len(store), 0, min(arguments.n, len(store)), 0)]
    _say_fewer(arguments, len(inputs))
    check_grid(arguments.out, 2 * len(inputs), pipeline.sample_size, pipeline.channels)
    originals = inputs[:, : store.channels]
    with making_images(arguments.model, pipeline, compute, "image"):
        made = reconstruct(pipeline, inputs)
        _print_seams(pipeline, originals[:1])
    rows = [row for pair in zip(originals.split(COLUMNS), made.split(COLUMNS), strict=True) for row in pair]
    save_grid(torch.cat(rows), arguments.out)


def _run_whole(arguments: argparse.Namespace, pipeline: ImagePipeline, compute: Compute) -> None:
    import torch

    from hfgen.autoencoders.sizes import reconstruct_any_size
    from hfgen.data import whole_images
    from hfgen.images import check_memory, check_room, stack, stack_size, to_float, to_uint8, write_picture
    from hfgen.pipelines.autoencoder import codec_of
    from hfgen.pipelines.finite import check_images

    codec = codec_of(pipeline)
    if codec is None or not pipeline.any_size:
        raise SettingsError(f"crop: {arguments.model} takes images of {pipeline.sample_size} pixels only; use center")
    originals = whole_images(
        arguments.data,
        split=arguments.split,
        n=arguments.n,
        channels=pipeline.channels,
        skip_damaged=arguments.skip_damaged,
        image_column=arguments.image_column,
        config_name=arguments.config_name,
    ).images
    _say_fewer(arguments, len(originals))
    size = stack_size([(image, image) for image in originals])
    check_room(arguments.out, size)
    check_memory(size, pipeline.channels)
    pairs = []
    with torch.no_grad(), making_images(arguments.model, pipeline, compute, "image"):
        for original in originals:
            (made,) = reconstruct_any_size(codec, [to_float(original[None])[0].to(pipeline.device)])
            check_images(made[None])
            pairs.append((original, to_uint8(made).cpu()))
        _print_seams(pipeline, originals[0][None])
    write_picture(arguments.out, stack(pairs))
    print(arguments.out)


def _say_fewer(arguments: argparse.Namespace, count: int) -> None:
    from hfgen.data import split_size
    from hfgen.data.splits import ALL

    if count == arguments.n:
        return
    # Damaged ones may be missing, where there are enough.
    served, there = split_size(arguments.data, arguments.split, config_name=arguments.config_name)
    if there < arguments.n:
        split = ALL if arguments.split == ALL else served
        logger.info("n: %d, all the images that %s has in the split %s", count, arguments.data, split)


def _print_seams(pipeline: ImagePipeline, image: Tensor) -> None:
    """What tiles change in one uint8 image (1, C, H, W), where there are tiles."""
    from hfgen.pipelines.autoencoder import seams_of

    found = seams_of(pipeline, image)
    if found is None:
        return
    print(f"tiles of {found['tile']} px change the first image by {found['rmse']:.3g} of 255 levels (root mean square)")
    for seam in found["by_distance"]:
        print(f"  {seam['nearest']:>4} to {seam['farthest']:>4} px from a seam: {seam['rmse']:.3g}")
