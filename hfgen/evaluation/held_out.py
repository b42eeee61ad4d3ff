"""DATA -> the held-out images that everything is compared with; how many there are is known before any is decoded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.data import Data, ImageStore, batch_indices, open_store, split_size
from hfgen.data.sources import find
from hfgen.data.splits import ALL
from hfgen.data_options import SmallImages
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.real_images import NEIGHBOURS, RealImages, real_images
from hfgen.evaluation.workspace import gather
from hfgen.files import folder_state
from hfgen.metrics.spectrum import SMALLEST
from hfgen.models.classifier import FEWEST_IMAGES
from hfgen.seeds import check_seed
from hfgen.setting_bounds import whole_number

MOST = 2000
"""Held-out images that are measured by default, where there are as many."""

FEWEST = 2 * (NEIGHBOURS + 1)

_PART = 2000
# Numbers of float32: 64 MB.
_MOST_KEPT = 2**24
# Bytes of training images that are searched for copies: some seconds.
_MOST_HASHED = 2**31

EMBEDDED = "embedded"
"""The extractor that is trained on DATA itself."""

PIXELS = "pixels"
"""The one of another kind: known statistics, scaled by those of DATA."""

_COLUMNS = ("image_column", "label_column", "config_name")
_SETTINGS = ("resolution", "channels", "condition", "small_images", "skip_damaged", *_COLUMNS)

logger = logging.getLogger("hfgen")


@dataclass(frozen=True, eq=False)
class HeldOut(RealImages):
    """Those of a store; `inputs` are the images with their conditions, if any; `training` is the whole train split."""

    store: ImageStore
    inputs: Tensor
    training: ImageStore

    @cached_property
    def own_distances(self) -> Tensor:
        """Of the held-out images, as `training_distances`."""
        return self.training_distances(self.features)

    def training_distances(self, features: Tensor) -> Tensor:
        """How far features (M, D) are from those of the nearest of all training images: (M,)."""
        return metrics.training_distances(self._training_features(), features).cpu()

    def _training_features(self) -> Iterator[Tensor]:
        """Of all training images, a part at a time; kept for the next model where they fit."""
        if self._kept:
            yield from self._kept
            return
        count = len(self.training)
        keep = count * self.features.shape[1] <= _MOST_KEPT
        parts = []
        for first in range(0, count, _PART):
            rows = torch.arange(first, min(first + _PART, count))
            part = self.extractor.features(self.training.gather(rows)[:, : self.training.channels])
            # Networks compute float32.
            parts += [part.float()] if keep else []
            yield part
        self._kept.extend(parts)

    @cached_property
    def _kept(self) -> list[Tensor]:
        return []


class Choice(NamedTuple):
    """Which images of DATA, and by which judge; see `hfgen.evaluate`."""

    split: str
    n: int | None
    seed: int
    small_images: SmallImages
    skip_damaged: bool
    image_column: str | None
    label_column: str | None
    config_name: str | None
    extractor: str

    def images(
        self,
        data: Data,
        resolution: int,
        channels: int | Literal["auto"],
        condition: tuple[str, int] | None,
        device: torch.device,
    ) -> HeldOut:
        """See `held_out_images`."""
        options: dict[str, Any] = {"resolution": resolution, "channels": channels, "condition": condition}
        return held_out_images(data, **self._asdict(), **options, device=device)


def choose_n(
    data: Data,
    split: str,
    n: int | None,
    *,
    fewest: int = FEWEST,
    most: int = MOST,
    extractor: str = EMBEDDED,
    config_name: str | None = None,
) -> int:
    """How many held-out images to measure: `n`, or as many as there are up to `most`. None is decoded.

    Raises:
        DataError: DATA or its split isn't there, has fewer images than `fewest`, or too few to train the embedded
            extractor on.
        SettingsError: `n` is below `fewest` or more than there are.
    """
    n = None if n is None else whole_number("n", n)
    used, there = split_size(data, split, config_name=config_name)
    training = _training(data, config_name)
    if extractor in (EMBEDDED, PIXELS) and training < FEWEST_IMAGES:
        raise DataError(
            f"data: {data} has {training} images to train on, and the fewest that the extractor {extractor} takes are "
            f"{FEWEST_IMAGES}; add images, or name an image network as --extractor"
        )
    return _checked_n(data, used, n, there, fewest, most)


def _training(data: Data, config_name: str | None) -> int:
    """How many images the train split has.

    Raises:
        DataError: there is none, or DATA can't be read.
    """
    try:
        return split_size(data, "train", config_name=config_name)[1]
    except DataError as error:
        if not str(error).startswith("split:"):
            raise
        raise DataError(
            f"data: {data} has no split train, with which the held-out images are compared; add one, or give images "
            "that aren't divided, of which a tenth is held out"
        ) from None


def _checked_n(data: Data, split: str, n: int | None, there: int, fewest: int, most: int) -> int:
    if there < fewest:
        raise DataError(
            f"data: {data} has {there} images in the split {split}, and the fewest to measure are {fewest}; "
            "add images, or choose a larger split with --split"
        )
    if n is not None and not fewest <= n <= there:
        raise SettingsError(f"n: {n} images asked of the {there} in {data}, split {split}; give {fewest} to {there}")
    return min(most, there) if n is None else n


def held_out_images(
    data: Data,
    *,
    split: str = "test",
    n: int | None = None,
    most: int = MOST,
    seed: int = 0,
    resolution: int,
    channels: int | Literal["auto"],
    condition: tuple[str, int] | None = None,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    extractor: str = EMBEDDED,
    device: torch.device | None = None,
) -> HeldOut:
    """`n` images of a split, by default all up to `most`, chosen by `seed`; as many of the train split beside them.

    The last ones are kept in memory for the next call, unless DATA or the extractor's folder has changed since. The
    extractor computes on `device`, by default the CPU.

    Raises:
        UserError: the data or the extractor can't be loaded, the split has fewer than `n` images, or the resolution
            is too small for a spectrum.
    """
    check_seed(seed)
    resolution = whole_number("resolution", resolution)
    if resolution < SMALLEST:
        raise SettingsError(f"resolution: {resolution} pixels are too few for a spectrum; use {SMALLEST} or more")
    columns = image_column, label_column, config_name
    settings = (resolution, channels, condition, small_images, skip_damaged, *columns)
    states = find(data, config_name).state, _state_of_extractor(extractor)
    return _held_out(data, states, split, n, most, seed, settings, extractor, device or torch.device("cpu"))


def _state_of_extractor(name: str) -> str:
    return folder_state(Path(name)) if Path(name).is_dir() else ""


@lru_cache(maxsize=1)
def _held_out(
    data: Data,
    states: tuple[str, str],
    split: str,
    n: int | None,
    most: int,
    seed: int,
    settings: tuple[Any, ...],
    extractor: str,
    device: torch.device,
) -> HeldOut:
    """See `held_out_images`; `states`, of the data and the extractor, are a part of the cache's key, no more."""
    options: dict[str, Any] = dict(zip(_SETTINGS, settings, strict=True))
    store = open_store(data, split=split, **options)
    training = store if split == "train" else open_store(data, split="train", **{**options, "channels": store.channels})
    # Once more: damaged images may have been left out.
    count = _checked_n(data, store.split, n, len(store), FEWEST, most)
    if n is None and count < most:
        logger.info("n: %d, all the images that %s has in the split %s", count, data, store.split)
    judge = _extractor(extractor, training).to(device)
    chosen = batch_indices(len(store), 0, count, seed)
    # Where the training images themselves are measured, the others are those that follow.
    others = batch_indices(len(training), count if training is store else 0, min(count, len(training)), seed)
    inputs = gather(store.gather, chosen, store.images.shape[1:])
    images = inputs if inputs.shape[1] == store.channels else inputs[:, : store.channels].contiguous()
    other_images = gather(lambda rows: training.gather(rows)[:, : store.channels], others, images.shape[1:])
    labels = None if store.labels is None else store.labels[chosen]
    real = real_images(images, other_images, labels, judge, seed)
    own = [*_own_notes(store, extractor), *_copies(inputs, store, training)]
    notes = list(dict.fromkeys([*store.notes, *training.notes, *own, *real.notes]))
    return HeldOut(**{**vars(real), "notes": notes}, store=store, inputs=inputs, training=training)


def _own_notes(store: ImageStore, extractor: str) -> Iterator[str]:
    if store.split in ("train", ALL):
        yield f"split {store.split}: these images aren't held out; the extractor was trained on them, and models may be"
    if store.channels == 1 and extractor not in (EMBEDDED, PIXELS):
        yield f"extractor: {extractor} takes colour; it sees grey images with three equal channels"


def _copies(inputs: Tensor, store: ImageStore, training: ImageStore) -> Iterator[str]:
    """Where images occur among the training images too, pixel by pixel, as in folders with copies."""
    if store.split in ("train", ALL) or training.images.nbytes > _MOST_HASHED:
        return
    seen = {_hash(image) for image in training.images}
    if count := sum(_hash(image) in seen for image in inputs):
        there = f"{count} of {len(inputs)} images are in the split train too, pixel by pixel"
        yield f"split {store.split}: {there}; remove the copies"


def _hash(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def _extractor(name: str, training: ImageStore) -> metrics.Extractor:
    if name == PIXELS:
        return metrics.pixel_extractor(training.targets, training.fingerprint)
    if name != EMBEDDED:
        return metrics.named_extractor(name)
    return metrics.embedded_extractor(
        training.targets, training.labels, training.fingerprint, factors=training.label_factors
    )
