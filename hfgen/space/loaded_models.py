"""The models that the Space shows: opened once, each with its record; one that can't be opened is left out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from hfgen.comparison.names import distinct_names
from hfgen.data import draw, open_store
from hfgen.data.sources import find
from hfgen.data_options import BUILT_IN, DEFAULT_DATA
from hfgen.devices import Compute, choose
from hfgen.documents import RECORD
from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.pipelines import ImagePipeline
from hfgen.pipelines.loading import open_model
from hfgen.pipelines.weight_digest import digest_of_folder, is_of
from hfgen.reporting.colours import Style, styles
from hfgen.space import RESULTS, photographs
from hfgen.space.knobs import Components, components, decoder_inputs, same_encoder

logger = logging.getLogger("hfgen")

QUICKSTART = Path("runs/quickstart")
# Pixels a side.
_AT_ONCE = 64
# All of them would take seconds to draw before the first picture.
_DRAWN = {"test": 256, "train": 4096}


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        name: What it is called here.
        pipeline: It, ready to use.
        folder: Where its record and its diagnosis lie.
        record: Its measurements, or None where it wasn't evaluated.
        weights_at: The folder of its weights, or their file; None where that isn't known.
        lock: Held by who runs it: of two requests that run at once, one draws and the other reconstructs.
    """

    name: str
    pipeline: ImagePipeline
    folder: Path
    record: dict[str, Any] | None
    weights_at: Path | None = None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def encodes(self) -> bool:
        """Whether any image can be reconstructed; a model of pairs needs a condition as well."""
        return self.pipeline.can_reconstruct and self.pipeline.paired_with is None

    @property
    def size(self) -> tuple[int, int]:
        """Resolution and channels of its images."""
        return self.pipeline.sample_size, self.pipeline.channels


@dataclass(frozen=True)
class LoadedModels:
    """All models by name, why each of the others couldn't be opened, and the data that examples are from.

    `state`: of the data when they were opened; see `hfgen.data.sources.Source`.
    """

    models: dict[str, Model]
    failed: dict[str, str]
    data: str
    results: list[Path] = field(default_factory=list)
    state: str = ""
    _components: dict[str, Components | None] = field(default_factory=dict, repr=False)
    _decoder_inputs: dict[str, Tensor | None] = field(default_factory=dict, repr=False)
    _weights: dict[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def encoders(self) -> list[Model]:
        """Those that reconstruct."""
        return [model for model in self.models.values() if model.encodes]

    @property
    def generators(self) -> list[Model]:
        """Those that draw images from noise alone."""
        return [model for model in self.models.values() if model.pipeline.can_sample]

    @property
    def at_once(self) -> bool:
        """Whether all of them are so small that they answer at once."""
        return max(model.size[0] for model in self.models.values()) <= _AT_ONCE

    @property
    def styles(self) -> dict[str, Style]:
        """Each model's colour and mark, those that couldn't be opened among them, in the order given."""
        return styles([*self.models, *self.failed])

    def components(self, model: Model) -> Components | None:
        """The principal components of the model's latents, found once; None: its latent can't be changed."""
        with model.lock:
            if model.name not in self._components:
                self._components[model.name] = components(model.pipeline, self.images(model.size))
            return self._components[model.name]

    def decoder_inputs(self, model: Model) -> Tensor | None:
        """What the model's decoder is given of the first two images, found once; None: its latent can't be changed."""
        with model.lock:
            if model.name not in self._decoder_inputs:
                self._decoder_inputs[model.name] = decoder_inputs(model.pipeline, self.images(model.size)[:2])
            return self._decoder_inputs[model.name]

    def weights(self, model: Model) -> str | None:
        """A hash of the model's weights, found once; None where it isn't known where they lie."""
        with model.lock:
            if model.name not in self._weights:
                place = model.weights_at
                self._weights[model.name] = None if place is None else digest_of_folder(place)
            return self._weights[model.name]

    def next_decoder(self, model: Model) -> str | None:
        """The next of the models that have this one's encoder, the first after the last; None where there is none."""
        mine = self.decoder_inputs(model)
        alike = [
            other.name
            for other in self.encoders
            if mine is not None
            and other.size == model.size
            and (theirs := self.decoder_inputs(other)) is not None
            and same_encoder(mine, theirs)
        ]
        return alike[(alike.index(model.name) + 1) % len(alike)] if len(alike) > 1 else None

    def images(self, size: tuple[int, int], split: str = "test") -> Tensor:
        """The data at a model's `size`, uint8 (N, C, R, R); of the built-in sets, which are drawn, the first."""
        return _open(self.data, self.state, split, *size)


@lru_cache(maxsize=8)
def _open(data: str, state: str, split: str, resolution: int, channels: int) -> Tensor:
    """`state`: of the data, which is a part of the cache's key."""
    if data == photographs.NAME:
        return photographs.photographs(resolution, channels)
    if data in BUILT_IN and BUILT_IN[data].channels in (1, channels):
        # Models of colour see grey letters in equal channels: with no data given, they are the examples of any model.
        return draw(data, split, 0, _DRAWN[split], resolution).images.expand(-1, channels, -1, -1)
    return open_store(data, split=split, resolution=resolution, channels=channels, small_images="pad").targets


def quickstart_models(folder: Path = QUICKSTART) -> list[str]:
    """The models that `hfgen quickstart` left.

    Raises:
        UserError: there are none; it says how to make them.
    """
    models = [str(path.parent) for path in sorted(folder.glob("*/pretrained"))]
    if not models:
        raise UserError(f"models: none given, and none in {folder}; run `hfgen quickstart`, or give runs' folders")
    return models


def open_models(
    models: Sequence[str] | Mapping[str, str],
    data: str | None = None,
    *,
    results: Sequence[Path] = (),
    resolution: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> LoadedModels:
    """Open the models, each a run's folder, a checkpoint's or `org/name[@revision]`.

    Args:
        models: Their places, or these by the names to show.
        data: Where examples, real images and training neighbours are from; by default what the first record names,
            if it is there; else `glyphs`, or photographs where all models are large autoencoders of colour.
        results: Folders of comparison.json, study.json and posterior.json, beside those that lie next to the models.
        resolution: Side of the images of models of any size; see `hfgen.load`.
        device: Where models run; see `hfgen.devices.choose`.
        dtype: In which numbers; see there.

    Raises:
        UserError: two are called alike, none can be opened, the data can't, or a folder holds no results.
    """
    for folder in results:
        if not any((folder / name).is_file() for name in RESULTS):
            raise UserError(f"results: {folder} has none of {', '.join(RESULTS)}; give a folder that has")
    compute = choose(device, dtype)
    places = models if isinstance(models, Mapping) else dict(zip(distinct_names(models), models, strict=True))
    opened, failed = {}, {}
    for name, model in places.items():
        try:
            opened[name] = _open_model(name, model, resolution, compute)
        except Exception as error:  # Whatever is wrong with one, the others are shown.
            failed[name] = (str(error) or type(error).__name__).splitlines()[0]
            logger.warning("%s is left out: %s", name, failed[name])
    if not opened:
        raise UserError(f"models: none of {', '.join(places)} can be opened; the lines above say why")
    if resolution is None:
        _bring_together(opened)
    examples = data or _data_of(opened)
    state = "" if examples == photographs.NAME else find(examples).state
    loaded = LoadedModels(opened, failed, examples, _result_folders(opened, results), state)
    for size in {model.size for model in opened.values()}:
        loaded.images(size)
    return loaded


def _open_model(name: str, place: str, resolution: int | None, compute: Compute) -> Model:
    pipeline, folder = open_model(place, resolution=resolution)
    pipeline = compute.place(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    home = folder if (folder / "record.json").is_file() or folder.name != "pretrained" else folder.parent
    return Model(name, pipeline, home, _record(home, folder), folder)


def _bring_together(models: dict[str, Model]) -> None:
    """A model of any size is shown at the size that it was trained at, where another model has that size."""
    sizes = {model.pipeline.sample_size for model in models.values()}
    for name, model in models.items():
        trained = model.pipeline.trained_size
        if model.pipeline.any_size and trained != model.pipeline.sample_size and trained in sizes:
            model.pipeline.resize(trained)
            logger.info("%s is shown at %d pixels, as the others; give --resolution for another size", name, trained)


def _record(home: Path, folder: Path) -> dict[str, Any] | None:
    if not (home / "record.json").is_file():
        return None
    try:
        record = RECORD.read(home / "record.json")
    except UserError as error:
        logger.warning("%s", error)
        return None
    if not is_of(record, folder):
        logger.warning("record: %s is of other weights than the model has now, and isn't shown", home / "record.json")
        return None
    return record


def _data_of(models: dict[str, Model]) -> str:
    """What the first record was measured on, if it can be loaded here."""
    for model in models.values():
        if model.record is not None:
            try:
                data = model.record["data"]["id"]
                _open(data, find(data).state, "test", *model.size)
            except UserError as error:
                logger.warning("%s; %s are shown instead", error, DEFAULT_DATA)
                break
            return data
    draws = any(model.pipeline.can_sample for model in models.values())
    suit = photographs.suit(model.size for model in models.values())
    return photographs.NAME if suit and not draws else DEFAULT_DATA


def _result_folders(models: dict[str, Model], given: Sequence[Path]) -> list[Path]:
    """Where results of several models may lie: those that were named come first."""
    return list(dict.fromkeys([*given, *sorted({model.folder.parent for model in models.values()})]))


def results_of(loaded: LoadedModels, name: str) -> list[Any]:
    """What the files `name` beside the models hold, such as comparison.json; damaged ones are left out."""
    return [found for _, found in folders_of(loaded, name)]


def folders_of(loaded: LoadedModels, name: str) -> list[tuple[Path, Any]]:
    """The same, each with its folder."""
    found = []
    for folder in loaded.results:
        if (folder / name).is_file():
            try:
                found.append((folder, read_json(folder / name)))
            except UserError as error:
                logger.warning("%s", error)
    return found
