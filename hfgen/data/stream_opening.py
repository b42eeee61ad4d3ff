"""DATA -> an image stream: planned from the shards' footers, its first images kept for what looks at them again."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfgen.data.batches import batch_indices
from hfgen.data.held import Data
from hfgen.data.image_store import ImageStore
from hfgen.data.labels import UNKNOWN
from hfgen.data.local_paths import Opened
from hfgen.data.shard_order import ShardOrder
from hfgen.data.shards import REMEDY, Shards, identity
from hfgen.data.sources import Source, find
from hfgen.data.split_images import Chunk, Part, Plan, Request, attempt, first_channels, plan_part, planned_part
from hfgen.data.store import check, kept_store, open_source
from hfgen.data.stream import ImageStream
from hfgen.errors import DataError, SettingsError
from hfgen.files import cache_dir
from hfgen.hub.calls import retried
from hfgen.limits import free_disk

FIRST = 4096
FIRST_BYTES = 2**30
"""How many images of a run are kept for what is fitted to images between its steps, and how much they may take."""

_CHUNK = 256

logger = logging.getLogger("hfgen")


@dataclass(frozen=True)
class _Found:
    """What is known of a stream before an image is fetched; `rows` are those of each shard that has any, by number."""

    name: str
    shards: Shards
    plan: Plan
    request: Request
    rows: dict[int, np.ndarray]
    fingerprint: str
    said: set[str] = dataclasses.field(default_factory=set)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, R, R) of an image with its condition."""
        channels = int(self.request.channels) + self.request.condition_channels
        return channels, self.request.resolution, self.request.resolution


def open_stream(
    data: Data, *, held: int, seed: int, run: str, config_name: str | None = None, **asked: Any
) -> ImageStream:
    """A split of parquet files of which `held` shards are decoded at a time, and one more meanwhile.

    Args:
        data: A Hub id, a folder or a file.
        held: Shards at a time.
        seed: Of the run: its order, and so its first images, depend on it.
        run: The run, in words: no other one touches its shards.
        config_name: The configuration, where a dataset card declares several.
        asked: The fields of `hfgen.data.split_images.Request`.

    Raises:
        DataError: DATA can't be read, an image of the first shards is refused, or the shards don't fit the disk.
        SettingsError: DATA isn't parquet files, its channels can't be told, or it has no such column.
    """
    request = Request(**asked)
    check(request)
    found = _look(find(data, config_name), request)
    order = ShardOrder([len(rows) for rows in found.rows.values()], held)
    folder = (
        cache_dir() / "streams" / hashlib.sha256(repr((found.fingerprint, held, seed, run)).encode()).hexdigest()[:32]
    )
    _check_disk(found, order, folder)
    stream = ImageStream(order, folder, partial(_load, found))
    try:
        stream.at_hand = _first_images(found, order, stream, seed)
    except BaseException:
        stream.close()
        raise
    return stream


def _look(source: Source, request: Request) -> _Found:
    """Read the footers and, where there are labels, their column."""
    opened = source.opened() if source.opened is not None else None
    if opened is None or opened.builder is None or opened.builder.name != "parquet":
        raise SettingsError(
            f"stream: {source.name} isn't parquet files, which alone are read shard by shard; leave --stream out"
        )
    builder = opened.builder
    shards = attempt(source.name, lambda: retried(lambda: Shards(source.name, builder)), REMEDY)
    plan = _complete_labels(shards, plan_part(source.name, Opened(shards, opened.notes), request))
    channels = request.channels
    if channels == "auto" and (channels := first_channels(source.name, shards, plan)) == 1:
        raise SettingsError(
            f"channels: the first images of {source.name} are grey, and a stream can't tell of the others; "
            "use --channels 1 or --channels 3"
        )
    request = dataclasses.replace(request, channels=channels)
    footers = shards.footers(plan.choice.whole)
    ends = np.cumsum([footer.rows for footer in footers])
    cuts = np.split(plan.choice.rows, np.searchsorted(plan.choice.rows, ends[:-1]))
    begins = [0, *ends[:-1].tolist()]
    rows = {number: own - begins[number] for number, own in enumerate(cuts) if len(own)}
    facts = {"request": request, "columns": plan.columns.names, "classes": plan.classes}
    return _Found(source.name, shards, plan, request, rows, identity(facts, footers))


def _complete_labels(shards: Shards, plan: Plan) -> Plan:
    """A plan whose labels are of every image and have names, or that leaves them out."""
    columns, classes, split = plan.columns, plan.classes, plan.choice.whole
    if classes is None:
        return plan
    counts = shards.split_values(split, columns.names["label"], columns.label_field)
    numbers = {value: classes.number(value) for value in counts}
    unknown = sum(count for value, count in counts.items() if numbers[value] == UNKNOWN)
    if unknown:
        others = {ours: theirs for ours, theirs in columns.names.items() if ours != "label"}
        note = f"labels are left out: {unknown} of the {counts.total()} images of {split} have none"
        return Plan(dataclasses.replace(columns, names=others), None, plan.choice, [*plan.notes, note])
    names = classes.names or [str(number) for number in range(max(numbers.values()) + 1)]
    return dataclasses.replace(plan, classes=dataclasses.replace(classes, names=names))


def _check_disk(found: _Found, order: ShardOrder, folder: Path) -> None:
    largest = max(footer.size for footer in found.shards.footers(found.plan.choice.whole))
    size = (order.held + 1) * max(order.sizes) * math.prod(found.shape) + largest
    if size > (free := free_disk(folder)):
        raise DataError(
            f"stream: {order.held} shards of {found.name} and the next one take {size / 1e9:.1f} GB at "
            f"{found.request.resolution} px, and {folder.parent} has {free / 1e9:.1f} GB; lower --stream or the "
            "resolution, free space, or set HFGEN_CACHE"
        )


def _load(found: _Found, shard: int, folder: Path, ended: threading.Event) -> ImageStore:
    """A shard's images, fetched and decoded unless they are in the folder."""
    number, rows = list(found.rows.items())[shard]
    whole, choice = found.plan.choice.whole, found.plan.choice
    called = found.shards.called(whole, number)
    plan = dataclasses.replace(found.plan, choice=dataclasses.replace(choice, rows=rows), notes=[])
    classes = found.plan.classes

    def chunks() -> Iterator[Chunk]:
        with found.shards.opened(whole, number, folder.with_name(f".{folder.name}.parquet")) as table:
            part = planned_part(called, table, plan, found.request, int(found.request.channels), in_place=True)
            for chunk in part.chunks:
                if ended.is_set():
                    raise DataError(f"data: {called} isn't wanted any more")
                yield chunk

    def open_part(request: Request) -> Part:
        for path in folder.parent.glob(f".{folder.name}.tmp*"):
            # Of a killed run: whoever writes holds a lock.
            shutil.rmtree(path, ignore_errors=True)
        names = classes.names if classes else None
        return Part((len(rows), *found.shape), names, chunks(), choice.split, [], in_place=True)

    try:
        store = kept_store(
            folder, Source(called, "", open_part, lambda split: (split, len(rows))), found.request, mapped=True
        )
    except OSError as error:
        raise DataError(f"cache: {folder} can't be written ({error}); free space, or set HFGEN_CACHE") from error
    if len(store) != len(rows):
        raise DataError(
            f"data: {called} has {len(rows) - len(store)} images that can't be read, one after the other; fix them, or "
            "leave the file out"
        )
    for note in store.notes:
        # What is done to images of one shard is mostly done to those of the others.
        count, _, kind = note.rpartition(" images: ")
        if (told := kind if count else f"{called}: {note}") not in found.said:
            found.said.add(told)
            logger.warning("%s: %s", called, note)
    return store


def _first_images(found: _Found, order: ShardOrder, stream: ImageStream, seed: int) -> ImageStore:
    """The first images of the run, decoded once, so that a resume finds them again."""
    count = min(FIRST, len(order), max(1, FIRST_BYTES // math.prod(found.shape)))
    note = (
        f"{len(order)} images in {len(order.sizes)} shards, of which {order.held} are held at a time; "
        f"what is fitted to images sees the first {count} of the run"
    )

    def chunks() -> Iterator[Chunk]:
        places = batch_indices(count, 0, count, seed)
        images, labels = torch.empty((count, *found.shape), dtype=torch.uint8), torch.full((count,), UNKNOWN)
        for start in range(0, count, _CHUNK):
            here = places[start : start + _CHUNK]
            images[here], own = stream.share(start, len(here), seed)
            if own is not None:
                labels[here] = own
        yield Chunk(images, labels if found.plan.classes else None, skipped=0)

    def open_part(request: Request) -> Part:
        names = found.plan.classes.names if found.plan.classes else None
        notes = [*found.plan.notes, note]
        return Part((count, *found.shape), names, chunks(), found.plan.choice.split, notes, in_place=True)

    state = f"{found.fingerprint} first {count} {seed} {order.held}"
    store = open_source(Source(found.name, state, open_part, lambda split: (split, count)), found.request)
    return dataclasses.replace(store, fingerprint=found.fingerprint)
