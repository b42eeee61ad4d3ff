"""How an opened pipeline is to run: the side of its images, the steps of a draw, the tiles of its autoencoder."""

from __future__ import annotations

import logging
from pathlib import Path

from hfgen.autoencoders.sizes import says_nothing
from hfgen.autoencoders.tiles import tile as set_tiles
from hfgen.errors import SettingsError, UserError
from hfgen.files import read_json
from hfgen.folders import run_file, trained_resolution
from hfgen.pipelines.autoencoder import AutoencoderPipeline, codec_of
from hfgen.pipelines.hfgen_pipelines_v1 import ImagePipeline
from hfgen.setting_bounds import whole_number

LARGEST_SIDE = 2**12

logger = logging.getLogger("hfgen")


def whole_settings(
    resolution: int | None, tile: int | None, steps: int | None
) -> tuple[int | None, int | None, int | None]:
    """What `adjust` sets, as ints.

    Raises:
        SettingsError: one isn't an integer.
    """
    settings = {"resolution": resolution, "tile": tile, "steps": steps}
    side, tiles, count = (None if value is None else whole_number(name, value) for name, value in settings.items())
    return side, tiles, count


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


def take_trained_size(pipeline: ImagePipeline, folder: Path, *, part_of_own: bool) -> None:
    """Of networks that take any size, take that of the pipeline of hfgen that they are in, or of their run.

    A stock config can't say the second: fine-tuning leaves it as it was, and 32 pixels are its class's default.

    Args:
        pipeline: Just opened.
        folder: Of its files, or its .safetensors file.
        part_of_own: Whether it is a network of a pipeline of hfgen, whose config holds.
    """
    if not pipeline.any_size:
        return
    if part_of_own and pipeline.trained_size:
        pipeline.resize(pipeline.trained_size)
    elif isinstance(pipeline, AutoencoderPipeline):
        pipeline.run_size = _run_size(folder if folder.is_dir() else folder.parent, pipeline.codec.factor)


def _run_size(folder: Path, factor: int) -> int | None:
    """Side of the images that the run of a network's folder saw; a run.json that can't be right is left out."""
    path = run_file(folder) if (folder / "config.json").is_file() else None
    if path is None:
        return None
    try:
        side = trained_resolution(read_json(path))
    except UserError as error:
        logger.warning("%s; the resolution is that of the config", error)
        return None
    if side is not None and (side % factor or side > LARGEST_SIDE):
        logger.warning("%s: resolution %d isn't one that the model takes; that of the config is taken", path, side)
        return None
    return side


def _resize(pipeline: ImagePipeline, resolution: int | None) -> None:
    """Take images of this side, and say so where the model was trained at another."""
    trained = pipeline.trained_size
    if resolution is not None:
        pipeline.resize(resolution)
    side, own = pipeline.sample_size, isinstance(pipeline, AutoencoderPipeline)
    run = pipeline.run_size if own else None
    if trained is None:
        logger.info("resolution: %d pixels; its config doesn't say at which size the model was trained", side)
    elif side == trained:
        if run is not None and resolution is None:
            logger.info("resolution: %d pixels, at which the model was trained by its run.json", side)
    elif run is None and own and says_nothing(pipeline.codec):
        logger.info(
            "resolution: %d pixels; sample_size %d is its class's default, and may be nobody's choice", side, trained
        )
    else:
        by = "config" if run is None else "run.json"
        logger.info("resolution: %d pixels; by its %s the model was trained at %d", side, by, trained)
