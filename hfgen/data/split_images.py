"""A table -> the decoded images of one split, a chunk at a time, and what was done to them."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from hfgen.data.columns import NONE, Columns, as_stored, choose_columns
from hfgen.data.decode import DamagedImage, Decoded, Rules, Stored, decode_and_tell, read, takes_long
from hfgen.data.labels import Classes, classes_of
from hfgen.data.local_paths import Opened, load_builder
from hfgen.data.splits import Choice, canonical, choose
from hfgen.data.tables import Batch, Table
from hfgen.data_options import SmallImages
from hfgen.errors import DataError, UserError
from hfgen.images import from_pil

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_LOOKED_AT = 16
_REMEDY = "check that it is complete, the connection, and that the disk isn't full"


class ColourFound(Exception):
    """An image in colour, after the first ones let the channels be 1."""


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
    image_column: str | None = None
    label_column: str | None = None

    @property
    def condition_channels(self) -> int:
        """How many channels of a stored image are its condition's."""
        return self.condition[1] if self.condition else 0


@dataclass(frozen=True)
class Chunk:
    """uint8 (n, C, R, R), int64 (n,) or None, and how many damaged images were left out.

    The channels of an image's condition, where one is asked for, follow its own. `changes` counts what was done to
    the images, in words; `peak` is the highest level of those of 16 bits, None where there are none.
    """

    images: Tensor
    labels: Tensor | None
    skipped: int
    changes: Counter[str] = dataclasses.field(default_factory=Counter)
    peak: int | None = None


@dataclass(frozen=True)
class Part:
    """One split: its shape (N, C, R, R) before any image is left out, and how to get the images.

    `split` is the split that is really used; `notes` say, a line each, what was chosen, left out or guessed. Drawing
    `chunks` may raise `ColourFound`, where the channels were found out. `in_place`: a readable image beside a damaged
    one takes its place, so that every row is where it was.
    """

    shape: tuple[int, int, int, int]
    label_names: list[str] | None
    chunks: Iterator[Chunk]
    split: str
    notes: list[str] = dataclasses.field(default_factory=list)
    in_place: bool = False


def hub_builder(name: str, revision: str | None, config_name: str | None) -> DatasetBuilder:
    """The reader of a Hub dataset; its `hash` is the commit. Nothing is downloaded yet except the card."""
    label = f"{name}@{revision}" if revision else name
    remedy = "there is no folder of that name; for the Hub, check the name, the connection and `hf auth login`"
    builder = attempt(label, lambda: load_builder(name, name, config_name, revision=revision), remedy)
    # Without the Hub, `datasets` falls back to whatever commit it has kept.
    if re.fullmatch(r"[0-9a-f]{40}", revision or "") and builder.hash != revision:
        raise DataError(f"data: {label} can't be reached, only {builder.hash} is kept here; go online")
    return builder


def open_part(name: str, opened: Opened, request: Request) -> Part:
    """One split of a table; `name` is for errors.

    Raises:
        DataError: it can't be read, has no such split, no image column or, while the chunks are drawn, an
            image that the request refuses.
        SettingsError: a column that the request names isn't there.
        ColourFound: while the chunks are drawn: see `Part`.
    """
    plan = plan_part(name, opened, request)
    if request.channels == "auto":
        channels = first_channels(name, opened.table, plan)
        return planned_part(name, opened.table, plan, request, channels, grey_only=channels == 1)
    return planned_part(name, opened.table, plan, request, request.channels)


@dataclass(frozen=True)
class Plan:
    """What is read of a table: its columns, what their labels mean, the rows; and what there is to say of it."""

    columns: Columns
    classes: Classes | None
    choice: Choice
    notes: list[str]


def plan_part(name: str, opened: Opened, request: Request) -> Plan:
    """What of a table is asked for; no image is read.

    Raises:
        UserError: see `open_part`.
    """
    table = opened.table
    condition = request.condition[0] if request.condition else None
    columns = choose_columns(name, table.features, request.image_column, request.label_column, condition)
    choice = attempt(name, lambda: choose(name, table.splits, table.count, request.split))
    classes, notes = attempt(name, lambda: _classes(table, columns))
    if "label" in columns.names and classes is None:
        del columns.names["label"]
    notes = [*opened.notes, *columns.notes, *notes, *([choice.note] if choice.note else [])]
    return Plan(columns, classes, choice, notes)


def first_channels(name: str, table: Table, plan: Plan) -> int:
    """1 where the first images that can be read are grey, else 3."""
    first = _batches(table, plan.choice.whole, plan.choice.rows[:_LOOKED_AT], plan)
    return attempt(name, lambda: _channels(stored for _, batch in first for stored in batch["image"]))


def planned_part(
    name: str,
    table: Table,
    plan: Plan,
    request: Request,
    channels: int,
    *,
    grey_only: bool = False,
    in_place: bool = False,
) -> Part:
    """The images of a plan's rows; `grey_only` raises `ColourFound` at another one, for `in_place` see `Part`."""
    rules = {"image": Rules(request.resolution, channels, request.small_images)}
    if request.condition:
        rules["condition"] = dataclasses.replace(rules["image"], channels=request.condition_channels)
    choice, classes = plan.choice, plan.classes
    shape = (len(choice.rows), channels + request.condition_channels, request.resolution, request.resolution)
    rows = _batches(table, choice.whole, choice.rows, plan)
    read_on = partial(attempt, name, lambda: next(rows, None))
    decoded = partial(_chunks, grey_only=grey_only, in_place=in_place)
    chunks = decoded(name, iter(read_on, None), rules, request.skip_damaged)
    return Part(shape, classes.names if classes else None, chunks, choice.split, plan.notes, in_place)


def count_rows(name: str, table: Table, split: str) -> tuple[str, int]:
    """The split that is used where `split` is asked for, and its number of rows; no image is decoded.

    Raises:
        DataError: it can't be read, or has no such split.
    """
    choice = attempt(name, lambda: choose(name, table.splits, table.count, split))
    return choice.split, len(choice.rows)


def shorter_side(name: str, table: Table, split: str, image_column: str | None) -> int:
    """The shorter side, in pixels, of the first image of a split.

    Raises:
        DataError: there is no such split, or the image can't be read.
    """
    columns = choose_columns(name, table.features, image_column, None, None)
    choice = attempt(name, lambda: choose(name, table.splits, table.count, split))
    rows = table.batches(choice.whole, choice.rows[:1], {"image": columns.names["image"]})
    (_, first), *_ = attempt(name, lambda: list(rows))
    try:
        return min(read(as_stored(first["image"][0])).size)
    except DamagedImage as error:
        raise DataError(f"samples: the first image of {name} can't be read ({error}); give --resolution") from None


class StoredImages(NamedTuple):
    """Images as they are stored, each with its name for errors; `notes` as of a `Part`."""

    notes: list[str]
    images: Iterator[tuple[str, Stored]]


def stored_images(
    name: str, opened: Opened, split: str, image_column: str | None, pick: Callable[[int], list[int]]
) -> StoredImages:
    """The images of a split as they are stored, of the rows that `pick` names, which is given their number.

    Raises:
        DataError: there is no such split, or, while the images are drawn, it can't be read.
    """
    table = opened.table
    columns = choose_columns(name, table.features, image_column, NONE, None)
    choice = attempt(name, lambda: choose(name, table.splits, table.count, split))

    def images() -> Iterator[tuple[str, Stored]]:
        rows = choice.rows[pick(len(choice.rows))]
        batches = iter(table.batches(choice.whole, rows, {"image": columns.names["image"]}))
        for numbers, batch in iter(partial(attempt, name, lambda: next(batches, None)), None):
            for number, stored in zip(numbers, map(as_stored, batch["image"]), strict=True):
                in_file = isinstance(stored, dict) and stored["bytes"] is None
                yield (stored["path"] if isinstance(stored, dict) and in_file else f"{name}, row {number},"), stored

    return StoredImages([*opened.notes, *columns.notes, *([choice.note] if choice.note else [])], images())


def attempt(name: str, call: Callable[[], Any], remedy: str = _REMEDY) -> Any:
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
        raise DataError(f"data: {name} can't be loaded ({type(cause).__name__}: {reason}); {remedy}") from error


def _classes(table: Table, columns: Columns) -> tuple[Classes | None, list[str]]:
    """What the values of the label's column mean, over all splits."""
    if (column := columns.names.get("label")) is None:
        return None, []
    feature = table.features[column]
    if columns.label_field is not None:
        feature = feature[columns.label_field]
    if (names := getattr(feature, "names", None)) is not None:
        if len(names) > 1 and all(map(canonical, names)):
            # `datasets` takes them for classes where the images of train/ and test/ have none.
            return None, [f"labels are left out: {', '.join(names)} are splits, not classes"]
        return Classes(list(names)), []
    called = column if columns.label_field is None else f"{column}.{columns.label_field}"
    return classes_of(called, table.values(column, columns.label_field))


def _batches(table: Table, split: str, rows: Any, plan: Plan) -> Iterator[Batch]:
    """Batches of `image` and `condition` as `decode` takes them, and of `label` as numbers of classes."""
    columns, classes = plan.columns, plan.classes
    for numbers, batch in table.batches(split, rows, columns.names):
        found: dict[str, list[Any]] = {}
        for column, cells in batch.items():
            if column != "label":
                found[column] = [as_stored(cell) for cell in cells]
            elif classes is not None:
                field = columns.label_field
                found[column] = [classes.number(cell if field is None else (cell or {}).get(field)) for cell in cells]
        yield numbers, found


def _channels(images: Iterable[Stored]) -> int:
    """1 where all the readable images are grey, else 3."""
    modes = set()
    for stored in images:
        try:
            modes.add(read(stored).mode)
        except DamagedImage:
            continue
    return 1 if modes == {"L"} else 3


def _chunks(
    name: str,
    batches: Iterable[Batch],
    rules: dict[str, Rules],
    skip_damaged: bool,
    *,
    grey_only: bool,
    in_place: bool,
) -> Iterator[Chunk]:
    """The rows in order, decoded by the rules of their columns; in threads where that is faster."""

    def decode_one(row: int, stored: Stored, rule: Rules) -> Decoded | None:
        in_file = isinstance(stored, dict) and stored["bytes"] is None
        place = stored["path"] if isinstance(stored, dict) and in_file else f"{name}, row {row},"
        try:
            return decode_and_tell(stored, place, rule)
        except DamagedImage as error:
            if skip_damaged:
                return None
            raise DataError(f"data: {place} can't be read ({error}); fix it, or pass --skip_damaged") from error

    each: Callable[..., Iterator[Decoded | None]] | None = None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for numbers, batch in batches:
            if each is None:
                rows = zip(numbers, batch["image"], strict=True)
                in_threads = takes_long(partial(decode_one, *row, rules["image"]) for row in rows)
                each = pool.map if in_threads else map
            decoded = {
                column: list(each(decode_one, numbers, batch[column], itertools.repeat(rule)))
                for column, rule in rules.items()
            }
            if grey_only and not all(image.was_grey for image in decoded["image"] if image is not None):
                raise ColourFound
            yield _chunk(decoded, batch.get("label"), rules, in_place)


def _chunk(
    decoded: dict[str, list[Decoded | None]], labels: list[int] | None, rules: dict[str, Rules], in_place: bool
) -> Chunk:
    """Whole rows only: an image without its condition is left out too, or replaced."""
    rows = list(zip(*decoded.values(), strict=True))
    kept = [index for index, row in enumerate(rows) if all(image is not None for image in row)]
    skipped = len(rows) - len(kept)
    if in_place and kept:
        # The last readable one before it; of those at the beginning, the first one.
        kept = [kept[max(0, bisect.bisect_right(kept, index) - 1)] for index in range(len(rows))]
    images = {column: [found for index in kept if (found := decoded[column][index])] for column in rules}
    pixels = torch.cat([_pixels([one.image for one in images[column]], rule) for column, rule in rules.items()], 1)
    changes = Counter(change for one in images["image"] for change in one.changes)
    peaks = [one.peak for one in images["image"] if one.peak is not None]
    numbers = None if labels is None else torch.tensor(labels, dtype=torch.int64)[kept]
    return Chunk(pixels, numbers, skipped, changes, max(peaks, default=None))


def _pixels(images: list[Any], rule: Rules) -> Tensor:
    side = rule.resolution
    return from_pil(images, rule.channels) if images else torch.empty(0, rule.channels, side, side).byte()
