"""How an opened pipeline is to run: the side of its images, the steps of a draw, the tiles of its autoencoder."""

from __future__ import annotations

import logging

from hfgen.autoencoders.tiles import tile as set_tiles
from hfgen.errors import SettingsError
from hfgen.pipelines.autoencoder import AutoencoderPipeline, codec_of
from hfgen.pipelines.hfgen_pipelines_v1 import ImagePipeline

logger = logging.getLogger("hfgen")


def adjust(pipeline: ImagePipeline, model: str, resolution: int | None, tile: int | None, steps: int | None) -> None:
    """Set what isn't None, as `hfgen.load` takes it, and say what is done to images; `model` is named in errors.

    Raises:
        SettingsError: images of this resolution don't fit the networks, or there are no such tiles or steps.
    """
    try:
        _resize(pipeline, resolution)
        if steps is not None:
            pipeline.set_steps(steps)
    except ValueError as error:
        raise SettingsError(f"{error}{_alone(pipeline, resolution)}") from None
    for note in pipeline.codec.notes() if isinstance(pipeline, AutoencoderPipeline) else ():
        logger.info("%s", note)
    if tile is not None:
        codec = codec_of(pipeline)
        if codec is None:
            raise SettingsError(f"tile: {model} is a {pipeline.family}, which has no autoencoder to tile; leave it out")
        set_tiles(codec, tile)


def _alone(pipeline: ImagePipeline, resolution: int | None) -> str:
    """What takes this size where the whole pipeline doesn't: its autoencoder, by the name of its folder."""
    codec = codec_of(pipeline)
    if resolution is None or codec is None or pipeline.any_size or not codec.any_size or resolution % codec.factor:
        return ""
    folder = next(name for name in pipeline.component_names if getattr(pipeline, name) is codec.network)
    return f", or give its autoencoder alone, which lies in its folder {folder}"


def _resize(pipeline: ImagePipeline, resolution: int | None) -> None:
    """Take images of this side, and say so where the model was trained at another."""
    trained = pipeline.trained_size
    if resolution is not None:
        pipeline.resize(resolution)
    side = pipeline.sample_size
    if trained is None:
        logger.info("resolution: %d pixels; its config doesn't say at which size the model was trained", side)
    elif side != trained:
        logger.info("resolution: %d pixels; by its config the model was trained at %d", side, trained)
