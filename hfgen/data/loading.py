"""A folder or a Hub dataset, read with `datasets` -> the decoded images of one split, a chunk at a time.

Labels are the column `label`, `labels` or `fine_label`, where it holds classes or integers; -1 is unknown.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hfgen.bars import without_bars
from hfgen.data.decode import DamagedImage, Rules, SmallImages, decode, read
from hfgen.data.splits import choose
from hfgen.data.tables import Batch, open_table
from hfgen.errors import UserError
from hfgen.images import from_pil

if TYPE_CHECKING:
    from datasets import DatasetBuilder, Features
    from PIL import Image

_SPLIT_FOLDERS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_LOOKED_AT = 16
_REMEDY = "check that it is whole, the connection, and that the disk isn't full"


@dataclass(frozen=True)
class Request:
    """What is asked of DATA; `skip_damaged` leaves out what can't be read, instead of stopping there.

    `condition`: column and channels of the images that condition those of the image column.
    """

    split: str
    resolution: int
    channels: int | Literal["auto"]
    small_images: SmallImages
    skip_damaged: bool
    condition: tuple[str, int] | None = None

    @property
    def condition_channels(self) -> int:
        """How many channels of a stored image are its condition's."""
        return self.condition[1] if self.condition else 0


@dataclass(frozen=True)
class Chunk:
    """uint8 (n, C, R, R), int64 (n,) or None, and how many damaged images were left out.

    The channels of an image's condition, where one is asked for, follow its own.
    """

    images: Tensor
    labels: Tensor | None
    skipped: int


@dataclass(frozen=True)
class Part:
    """One split: its shape (N, C, R, R) before any image is left out, and how to get the images.

    `split` is the split that is really used; `notes` say, a line each, what was chosen, dropped or guessed.
    """

    shape: tuple[int, int, int, int]
    label_names: list[str] | None
    chunks: Iterator[Chunk]
    split: str
    notes: list[str] = dataclasses.field(default_factory=list)


def open_folder(name: str, folder: Path, request: Request) -> Part:
    """`open_part` of a folder of images or of parquet files; without the bars of `datasets`: it takes no time."""
    with without_bars("datasets"):
        return open_part(name, folder_builder(folder), request)


def folder_builder(folder: Path) -> DatasetBuilder:
    """The reader of a folder of images or of parquet files.

    Top folders named train, val or validation, and test are splits, where two of them or no others exist.
    """
    from datasets import load_dataset_builder
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    suffixes = {path.suffix.lower() for path in folder.rglob("*") if path.is_file()}
    if ".parquet" in suffixes or not suffixes.intersection(ImageFolder.EXTENSIONS):
        return _attempt(str(folder), "check its files", lambda: load_dataset_builder(str(folder)))
    top = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    splits = top & _SPLIT_FOLDERS.keys()
    # Explicit: by default `datasets` makes a file called cats/test_3.png a split of its own.
    files = {"train": "**"}
    if splits and (len(splits) > 1 or splits == top):
        files = {_SPLIT_FOLDERS[name]: f"{name}/**" for name in sorted(splits)}
    return _attempt(
        str(folder),
        "check its files",
        lambda: load_dataset_builder("imagefolder", data_dir=str(folder), data_files=files),
    )


def hub_builder(name: str, revision: str | None) -> DatasetBuilder:
    """The reader of a Hub dataset; its `hash` is the commit. Nothing is downloaded yet but the card."""
    from datasets import load_dataset_builder

    label = f"{name}@{revision}" if revision else name
    remedy = "there is no folder of that name; for the Hub, check the name, the connection and `hf auth login`"
    builder = _attempt(label, remedy, lambda: load_dataset_builder(name, revision=revision))
    # Without the Hub, `datasets` falls back to whatever commit it has kept.
    if re.fullmatch(r"[0-9a-f]{40}", revision or "") and builder.hash != revision:
        raise UserError(f"data: {label} can't be reached, only {builder.hash} is kept here; go online")
    return builder


def open_part(name: str, builder: DatasetBuilder, request: Request) -> Part:
    """One split of what the builder reads; `name` is for errors.

    Raises:
        UserError: it can't be read, has no such split, no image column or, while the chunks are drawn, an
            image that the request refuses.
    """
    remedy = _REMEDY
    table = _attempt(name, remedy, lambda: open_table(builder))
    columns = _columns(name, table.features, request)
    choice = _attempt(name, remedy, lambda: choose(name, table.splits, table.count, request.split))
    whole, rows = choice.whole, choice.rows
    channels = request.channels
    if channels == "auto":
        first = table.batches(whole, rows[:_LOOKED_AT], columns)
        channels = _attempt(name, remedy, lambda: _channels(stored for _, batch in first for stored in batch["image"]))
    rules = {"image": Rules(request.resolution, channels, request.small_images)}
    if request.condition:
        rules["condition"] = dataclasses.replace(rules["image"], channels=request.condition_channels)
    label_names = getattr(table.features[columns["label"]], "names", None) if "label" in columns else None
    shape = (len(rows), channels + request.condition_channels, request.resolution, request.resolution)
    batches = table.batches(whole, rows, columns)
    read_on = partial(_attempt, name, remedy, lambda: next(batches, None))
    chunks = _chunks(name, iter(read_on, None), rules, request.skip_damaged)
    return Part(shape, label_names, chunks, choice.split, [choice.note] if choice.note else [])


def count_rows(name: str, builder: DatasetBuilder, split: str) -> tuple[str, int]:
    """The split that is used where `split` is asked for, and its number of rows; no image is decoded.

    Raises:
        DataError: it can't be read, or has no such split.
    """

    def count() -> tuple[str, int]:
        with without_bars("datasets"):
            table = open_table(builder)
        choice = choose(name, table.splits, table.count, split)
        return choice.split, len(choice.rows)

    return _attempt(name, _REMEDY, count)


def stored_side(data: str, split: str) -> int:
    """The shorter side, in pixels, of the first image that a folder or a Hub dataset holds.

    Raises:
        UserError: it is neither, or can't be read.
    """
    folder = Path(data).expanduser()
    if not folder.is_dir() and not re.fullmatch(r"\w[\w.-]*/[\w.-]+(@\S+)?", data):
        raise UserError(f"samples: {data!r} is no folder of images or parquet files, nor a Hub id; give one")
    name, _, revision = data.partition("@")
    with without_bars("datasets"):
        table = open_table(folder_builder(folder) if folder.is_dir() else hub_builder(name, revision or None))
    columns = {"image": _columns(data, table.features, Request(split, 8, "auto", "refuse", False))["image"]}
    choice = choose(data, table.splits, table.count, split)
    whole, rows = choice.whole, choice.rows
    (_, first), *_ = table.batches(whole, rows[:1], columns)
    try:
        return min(read(first["image"][0]).size)
    except DamagedImage as error:
        raise UserError(f"samples: the first image of {data} can't be read ({error}); give --resolution") from None


def _attempt(name: str, remedy: str, call: Callable[[], Any]) -> Any:
    """What `datasets` answers, with any failure as one line."""
    from datasets.exceptions import DatasetGenerationError

    try:
        return call()
    except UserError:
        raise
    except Exception as error:  # The network, the Hub, pyarrow and `datasets` each raise their own.
        # This one says only that something went wrong.
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        reason = str(cause).strip().partition("\n")[0]
        raise UserError(f"data: {name} can't be loaded ({type(cause).__name__}: {reason}); {remedy}") from error


def no_condition(name: str, condition: str, columns: Iterable[str]) -> UserError:
    """The error for pairs that DATA hasn't."""
    return UserError(
        f"condition: {name} has no column of images {condition!r} beside the images to make, only "
        f"{', '.join(columns)}; name one with --model.condition, or give paired data"
    )


def _columns(name: str, features: Features, request: Request) -> dict[str, str]:
    """The columns to read, by our names `image`, `label` where there is one, `condition` where it is asked for."""
    from datasets import Image as ImageFeature

    images = [column for column, feature in features.items() if isinstance(feature, ImageFeature)]
    columns = {}
    if request.condition:
        condition = request.condition[0]
        if condition not in images or len(images) < 2:
            raise no_condition(name, condition, features)
        images.remove(condition)
        columns["condition"] = condition
    columns["image"] = _image_column(name, images, features)
    if label := _label_column(features):
        columns["label"] = label
    return columns


def _image_column(name: str, columns: list[str], features: Features) -> str:
    if not columns:
        raise UserError(
            f"data: {name} has no column of images, only {', '.join(features)}; name a folder of images, "
            "or a dataset whose viewer shows them"
        )
    return next((column for column in _IMAGE_COLUMNS if column in columns), columns[0])


def _label_column(features: Features) -> str | None:
    from datasets import ClassLabel, Value

    for column in _LABEL_COLUMNS:
        feature = features.get(column)
        if isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "int" in feature.dtype):
            return column
    return None


def _channels(images: Iterable[dict[str, Any] | None]) -> int:
    """1 where all the readable images are grey, else 3."""
    modes = set()
    for stored in images:
        try:
            modes.add(read(stored).mode)
        except DamagedImage:
            continue
    return 1 if modes == {"L"} else 3


def _chunks(name: str, batches: Iterable[Batch], rules: dict[str, Rules], skip_damaged: bool) -> Iterator[Chunk]:
    """The rows in order, decoded in threads by the rules of their columns: Pillow works outside Python's lock."""

    def attempt(row: int, stored: dict[str, Any] | None, rule: Rules) -> Image.Image | None:
        in_file = stored is not None and stored["bytes"] is None
        place = stored["path"] if stored and in_file else f"{name}, row {row},"
        try:
            return decode(stored, place, rule)
        except DamagedImage as error:
            if skip_damaged:
                return None
            raise UserError(f"data: {place} can't be read ({error}); mend it, or pass --skip_damaged") from error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for numbers, batch in batches:
            decoded = {
                column: list(pool.map(attempt, numbers, batch[column], itertools.repeat(rule)))
                for column, rule in rules.items()
            }
            yield _chunk(decoded, batch.get("label"), rules)


def _chunk(
    decoded: dict[str, list[Image.Image | None]], labels: list[int | None] | None, rules: dict[str, Rules]
) -> Chunk:
    """Whole rows only: an image without its condition is left out too."""
    rows = list(zip(*decoded.values(), strict=True))
    kept = [index for index, row in enumerate(rows) if all(image is not None for image in row)]
    pixels = torch.cat([_pixels([decoded[column][index] for index in kept], rule) for column, rule in rules.items()], 1)
    if labels is None:
        return Chunk(pixels, None, len(rows) - len(kept))
    known = [-1 if label is None else label for label in labels]
    return Chunk(pixels, torch.tensor(known, dtype=torch.int64)[kept], len(rows) - len(kept))


def _pixels(images: list[Any], rule: Rules) -> Tensor:
    side = rule.resolution
    return from_pil(images, rule.channels) if images else torch.empty(0, rule.channels, side, side).byte()
