"""Decoded once, kept as uint8: the images that training and evaluation gather from."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import logging
import math
import mmap
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from hfgen.bars import quiet
from hfgen.data.glyphs import SMALLEST
from hfgen.data.held import Data
from hfgen.data.image_store import ImageStore
from hfgen.data.labels import missing_classes
from hfgen.data.sources import Source, find
from hfgen.data.split_images import ColourFound, Part, Request
from hfgen.data_options import SmallImages
from hfgen.errors import DataError, SettingsError, UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_json
from hfgen.limits import free_disk, free_memory

_FORMAT = 3
_QUIET_BELOW = 5_000
_FEW_BITS = 14

logger = logging.getLogger("hfgen")


def open_store(
    data: Data,
    *,
    split: str = "train",
    resolution: int,
    channels: int | Literal["auto"] = "auto",
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    condition: tuple[str, int] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
) -> ImageStore:
    """Open DATA, decoded by the rules of `hfgen.data.decode`: at the first time only, then from the cache.

    Args:
        data: see `hfgen.data.sources`, and `hfgen.data.held` for images without an address; a dataset whose only
            split is `train` gives a tenth of it, by a fixed seed, as `test`, and the rest as `train`. Where there is
            no `test`, `validation` serves.
        split: the split's name; `all` is the whole of an undivided dataset.
        resolution: side of the square images, in pixels.
        channels: 1, 3, or `auto`: 1 where all of the split's images are grey, else 3.
        small_images: what to do with an image whose shorter side is below the resolution: refuse it, pad it
            with its border's median colour (pixels untouched), or upscale it.
        skip_damaged: leave out, count and log the images that can't be read, instead of refusing the data.
        condition: a column of images that condition the others, row by row, and their channels (1 or 3). They are
            brought to the resolution by the same rules, whatever size each has.
        image_column: the column of images, where a dataset has several.
        label_column: the column of labels, likewise, or the one of metadata; `none` leaves labels out.
        config_name: the configuration, where a dataset card declares several.

    Raises:
        DataError: DATA, its split or an image is missing, damaged or too small; the cache can't be written.
        SettingsError: a field has no such value, or DATA no such column or configuration.
    """
    columns = {"image_column": image_column, "label_column": label_column}
    request = Request(split, resolution, channels, small_images, skip_damaged, condition, **columns)
    check(request)
    return open_source(find(data, config_name), request)


def split_size(data: Data, split: str = "test", *, config_name: str | None = None) -> tuple[str, int]:
    """The split that serves where `split` is asked for, and how many images it has; none is decoded.

    An undivided dataset has a `test` split, the tenth that is held out; where there is no `test`, `validation`
    serves. Damaged images count, since none is looked at.

    Raises:
        DataError: DATA or the split isn't there.
        SettingsError: `config_name` is no configuration of DATA, or it has several and none is named.
    """
    return find(data, config_name).count(split)


def stored_side(data: Data, split: str, *, image_column: str | None = None, config_name: str | None = None) -> int:
    """The shorter side, in pixels, of the first image that a folder, a file or a Hub dataset holds.

    Raises:
        DataError: it is none of them, or can't be read.
    """
    if (side := find(data, config_name).side) is None:
        raise DataError(f"samples: {str(data)!r} isn't a folder of images or parquet files, nor a Hub id; give one")
    return side(split, image_column)


def open_source(source: Source, request: Request) -> ImageStore:
    """`open_store` of a source that was found already."""
    folder = cache_dir() / "stores" / store_key(source, request)
    try:
        store = kept_store(folder, source, request)
    except OSError as error:
        raise DataError(f"cache: {folder} can't be written ({error}); free space, or set HFGEN_CACHE") from error
    for note in store.notes:
        logger.warning("%s: %s", source.name, note)
    return store


def store_key(source: Source, request: Request) -> str:
    """What the decoded images of a request are called in the cache."""
    return hashlib.sha256(repr((_FORMAT, source.state, request)).encode()).hexdigest()[:32]


def kept_store(folder: Path, source: Source, request: Request, *, mapped: bool = False) -> ImageStore:
    """The store in this folder, decoded into it where there is none; `mapped` even where it fits the memory.

    Raises:
        DataError: an image is refused, or the store doesn't fit the disk.
        OSError: it can't be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One process of a machine decodes; the others wait for it.
    with FileLock(folder.parent / f".{folder.name}.lock"):
        store = _read(folder, source, mapped)
        if store is None:
            _write(folder, source, request)
            store = _read(folder, source, mapped)
    if store is None:
        raise DataError(f"cache: {folder} changed while it was read; run again")
    return store


def check(request: Request) -> None:
    """Refuse values that no request can have.

    Raises:
        SettingsError: a field has one.
    """
    if request.resolution < SMALLEST:
        raise SettingsError(f"resolution: {request.resolution} is too small; use {SMALLEST} or more")
    if request.channels not in (1, 3, "auto"):
        raise SettingsError(f"channels: {request.channels!r} is unknown; use 1, 3 or auto")
    if request.small_images not in get_args(SmallImages):
        raise SettingsError(f"small_images: {request.small_images!r} is unknown; use refuse, pad or upscale")


def _write(folder: Path, source: Source, request: Request) -> None:
    try:
        _write_part(folder, source, request)
    except ColourFound:
        _write_part(folder, source, dataclasses.replace(request, channels=3))


def _write_part(folder: Path, source: Source, request: Request) -> None:
    part = source.open(request)
    size, free = math.prod(part.shape), free_disk(folder)
    if size > free:
        raise DataError(
            f"cache: {source.name} at {request.resolution} px takes {size / 1e9:.1f} GB, and {folder.parent} has "
            f"{free / 1e9:.1f} GB; lower the resolution, free space, or set HFGEN_CACHE"
        )
    with atomic_folder(folder) as temporary:
        meta = {"source": source.name, "split": part.split, "label_names": part.label_names}
        extent = {"condition_channels": request.condition_channels, **_write_arrays(temporary, part, source.name)}
        write_json(temporary / "meta.json", {**meta, **extent})


def _write_arrays(folder: Path, part: Part, name: str) -> dict[str, Any]:
    """Write images.npy and, where there are labels, labels.npy; returns what describes them."""
    labels: list[np.ndarray] = []
    changes: Counter[str] = Counter()
    peaks: list[int] = []
    kept = skipped = highest = 0
    digest = hashlib.sha256()
    hidden = quiet() or part.in_place or part.shape[0] <= _QUIET_BELOW
    bar = tqdm(total=part.shape[0], desc="decoding", unit="img", disable=hidden)
    with (folder / "images.npy").open("wb") as file, bar:
        _write_header(file, part.shape)
        for chunk in part.chunks:
            pixels = chunk.images.numpy().tobytes()
            file.write(pixels)
            digest.update(pixels)
            kept += len(chunk.images)
            skipped += chunk.skipped
            highest = max(highest, int(chunk.images.max()) if len(chunk.images) else 0)
            changes += chunk.changes
            if chunk.peak is not None:
                peaks.append(chunk.peak)
            if chunk.labels is not None:
                labels.append(chunk.labels.numpy())
            bar.update(len(chunk.images) + chunk.skipped)
        shape = (kept, *part.shape[1:])
        file.seek(0)
        _write_header(file, shape)
    if not kept:
        raise DataError(f"data: none of the {skipped} images of {name} can be read; fix them")
    notes = [*part.notes, *_changes(changes, kept, max(peaks, default=None))]
    if highest == 1 and not peaks:
        notes.append(f"no image of {part.split} has a level above 1 of 255: all are black; store masks as 0 and 255")
    if skipped:
        done = "replaced by a neighbour in" if part.in_place else "left out of"
        notes.append(f"damaged images {done} {part.split}: {skipped}")
    if labels:
        all_labels = np.concatenate(labels)
        np.save(folder / "labels.npy", all_labels)
        digest.update(all_labels.tobytes())
        notes += [] if part.in_place else missing_classes(part.split, part.label_names, all_labels.tolist())
    digest.update(repr(shape).encode())
    facts = {"labelled": bool(labels), "skipped": skipped, "notes": notes}
    return {"shape": shape, "fingerprint": digest.hexdigest(), **facts}


def _changes(changes: Counter[str], kept: int, peak: int | None) -> list[str]:
    """A line on each thing that was done to the images."""
    notes = [
        f"all {kept} images: {change}" if count == kept else f"{count} of {kept} images: {change}"
        for change, count in changes.most_common()
    ]
    if peak is not None and peak.bit_length() <= _FEW_BITS:
        notes.append(
            f"the images of 16 bits reach level {peak} of 65535 only, {peak.bit_length()} bits: they come out dark; "
            f"save them multiplied by {2 ** (16 - peak.bit_length())}"
        )
    return notes


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """NumPy pads the header so that another first axis takes the same room."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _read(folder: Path, source: Source, mapped: bool) -> ImageStore | None:
    """The store, or None where the folder is missing, incomplete or of another shape than it says.

    Raises:
        UserError: the process may not even map it.
    """
    try:
        meta = read_json(folder / "meta.json")
        images, mapping = _load(folder / "images.npy", mapped)
        labels = np.load(folder / "labels.npy") if meta["labelled"] else None
        if list(images.shape) != meta["shape"] or (labels is not None and len(labels) != len(images)):
            return None
        return ImageStore(
            images=images,
            labels=None if labels is None else torch.from_numpy(labels),
            label_names=meta["label_names"],
            fingerprint=meta["fingerprint"],
            source=source.name,
            split=meta["split"],
            resolution=images.shape[2],
            channels=images.shape[1] - meta["condition_channels"],
            skipped=meta["skipped"],
            condition_channels=meta["condition_channels"],
            mapping=mapping,
            notes=meta["notes"],
            factors=source.label_factors,
        )
    except (UserError, OSError, EOFError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise DataError(f"cache: {folder} can't be mapped ({error}); raise the limit `ulimit -v`") from error
        return None


def _load(path: Path, mapped: bool) -> tuple[Tensor, mmap.mmap | None]:
    """The images and, where they are too large for the memory, the mapping that they are read from."""
    if not mapped and _fits(path.stat().st_size):
        return torch.from_numpy(np.load(path)), None
    # Read-only: the kernel refuses a writable mapping that is larger than the memory, even a private one.
    images = np.load(path, mmap_mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images), images.base


def _fits(size: int) -> bool:
    """Whether each training process of this machine may hold `size` bytes, a quarter of the free memory in all."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return size * processes < free_memory() / 4
