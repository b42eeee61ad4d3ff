"""Images of DATA with their own shapes: neither cropped nor resized, and not kept in the cache."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hfgen.data.batches import batch_indices
from hfgen.data.decode import DamagedImage, decode_whole
from hfgen.data.held import Data
from hfgen.data.sources import find
from hfgen.errors import DataError, SettingsError
from hfgen.images import from_pil

logger = logging.getLogger("hfgen")


class WholeImages(NamedTuple):
    """uint8 images (C, H, W), each of its own shape, and a line for each thing that was done to them or left out."""

    images: list[Tensor]
    notes: list[str]


def whole_images(
    data: Data,
    *,
    split: str = "test",
    n: int,
    seed: int = 0,
    channels: int = 3,
    skip_damaged: bool = False,
    image_column: str | None = None,
    config_name: str | None = None,
    keep: Callable[[Tensor], Tensor] = lambda image: image,
) -> WholeImages:
    """Up to `n` images of a split of DATA, chosen by `seed`, in the order of DATA; `keep` puts each where it stays.

    Raises:
        DataError: DATA or the split isn't there, or an image is damaged and `skip_damaged` is off.
        SettingsError: DATA is drawn for one size, and has no shapes of its own.
    """
    source = find(data, config_name)
    if source.stored is None:
        raise SettingsError(f"crop: {data} is drawn at the size that is asked for; leave --crop none out")

    def pick(count: int) -> list[int]:
        return sorted(batch_indices(count, 0, min(n, count), seed).tolist())

    images, changes, skipped = [], Counter[str](), 0
    there = source.stored(split, image_column, pick)
    for place, stored in there.images:
        try:
            found = decode_whole(stored, channels)
        except DamagedImage as error:
            if not skip_damaged:
                raise DataError(f"data: {place} can't be read ({error}); fix it, or pass --skip_damaged") from error
            skipped += 1
            continue
        changes.update(found.changes)
        images.append(keep(from_pil([found.image], channels)[0]))
    if not images:
        raise DataError(f"data: none of the images of {data} can be read; check it")
    notes = [*there.notes, *(f"{count} of {len(images)} images {change}" for change, count in changes.items())]
    notes += [f"{skipped} damaged images were left out"] if skipped else []
    for note in notes:
        logger.warning("%s: %s", source.name, note)
    return WholeImages(images, notes)
