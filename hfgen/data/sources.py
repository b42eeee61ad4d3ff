"""What DATA names.

`glyphs` or `stacked`; an existing folder of images (class folders give labels), of parquet or Arrow files, of arrays or
of archives, with or without a dataset card; one such file; or a Hub id `org/name[@revision]`.

The built-in names win over a folder of that name (write `./glyphs`), and a folder over a Hub id.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hfgen.bars import without_bars
from hfgen.data import glyphs
from hfgen.data.columns import no_condition
from hfgen.data.held import AS_OBJECT, Data, Held
from hfgen.data.layout import find_splits
from hfgen.data.local_paths import Opened, open_path
from hfgen.data.split_images import (
    Chunk,
    Part,
    Request,
    StoredImages,
    attempt,
    count_rows,
    hub_builder,
    open_part,
    shorter_side,
    stored_images,
)
from hfgen.data.splits import no_split
from hfgen.data.tables import Table
from hfgen.data_options import BUILT_IN
from hfgen.errors import DataError, SettingsError
from hfgen.files import exists, folder_state

if TYPE_CHECKING:
    from datasets import DatasetBuilder

_CHUNK = 128


@dataclass(frozen=True)
class Source:
    """DATA, found.

    Attributes:
        name: DATA as given; for a Hub id, with the resolved commit as its revision.
        state: a text that changes with the content.
        open: gives one split.
        count: gives the split that is used where another may be asked for, and its number of images, undecoded.
        side: gives the shorter side of a split's first image, of a column if one is named.
        label_factors: sizes of the independent factors that make up a label, the most significant first; (): one.
        stored: gives the images of a split as they are stored: see `hfgen.data.split_images.stored_images`.
        opened: gives its table, which isn't prepared yet; None for what is drawn.
    """

    name: str
    state: str
    open: Callable[[Request], Part]
    count: Callable[[str], tuple[str, int]]
    side: Callable[[str, str | None], int] | None = None
    label_factors: tuple[int, ...] = ()
    stored: Callable[[str, str | None, Callable[[int], list[int]]], StoredImages] | None = None
    opened: Callable[[], Opened] | None = None


_known: ContextVar[dict[tuple[str, str | None], Source] | None] = ContextVar("known", default=None)


@contextlib.contextmanager
def found_once() -> Iterator[None]:
    """Within, also as a decorator, each DATA that is named is looked for once, whatever is asked of it.

    To ask for the size and the times of every file takes minutes on network file systems, and a Hub is asked for the
    commit. What changes meanwhile is seen by the next command.
    """
    token = _known.set({} if _known.get() is None else _known.get())
    try:
        yield
    finally:
        _known.reset(token)


@contextlib.contextmanager
def named_data(data: Data) -> Iterator[str]:
    """An address that finds the data within; that of what is held in place of an address names its content, too."""
    if not isinstance(data, Held):
        yield data
        return
    with found_once():
        known = _known.get()
        assert known is not None, "found_once sets it"
        digest = hashlib.sha256(data.state.encode()).hexdigest()[:12]
        name = f"{data.name.removesuffix(AS_OBJECT)}{digest} {AS_OBJECT}"
        known[name, None] = _find(data, None)
        yield name


def find(data: Data, config_name: str | None = None) -> Source:
    """The source that DATA names or is. A Hub id is resolved to its commit; no image is fetched or decoded yet.

    Raises:
        DataError: DATA has none of the forms, or isn't there.
        SettingsError: it has no configuration of that name, or several and none is named.
    """
    known = _known.get()
    if known is None or isinstance(data, Held):
        return _find(data, config_name)
    if (data, config_name) not in known:
        known[data, config_name] = _find(data, config_name)
    return known[data, config_name]


def _find(data: Data, config_name: str | None) -> Source:
    if isinstance(data, Held):
        if config_name is not None:
            raise SettingsError(f"config_name: {data} has no configurations; leave it out")
        opened = Opened(data.table, data.notes)
        return _table_source(data.name, data.state, lambda: opened)
    if data in BUILT_IN:
        if config_name is not None:
            raise SettingsError(f"config_name: {data} has no configurations; leave it out")
        # Matplotlib brings the fonts, Pillow the FreeType that draws them.
        drawn_by = f"pillow {version('pillow')} matplotlib {version('matplotlib')}"
        state = f"{data} {glyphs.VERSION} {drawn_by}"
        opens, counts = partial(_open_built_in, data), partial(_count_built_in, data)
        return Source(data, state, opens, counts, label_factors=BUILT_IN[data].label_factors)
    path = Path(data).expanduser()
    if data and exists(path):
        return _table_source(data, f"{_state(path)} {config_name}", lambda: _open_local(data, path, config_name))
    return _find_on_hub(data, config_name)


def _table_source(name: str, state: str, open_: Callable[[], Opened], found: str | None = None) -> Source:
    """A source that is opened once, and only when something of it is asked for; errors call it `name`."""
    opened = cache(open_)

    @cache
    def table() -> Table:
        # What is prepared from files here is too fast for a progress bar.
        with contextlib.nullcontext() if found else without_bars("datasets"):
            return attempt(name, lambda: opened().table, *([] if found else ["check its files"]))

    def part(request: Request) -> Part:
        table()
        return open_part(name, opened(), request)

    def stored(split: str, column: str | None, pick: Callable[[int], list[int]]) -> StoredImages:
        table()
        return stored_images(name, opened(), split, column, pick)

    return Source(
        found or name,
        state,
        part,
        lambda split: count_rows(name, table(), split),
        lambda split, column: shorter_side(name, table(), split, column),
        stored=stored,
        opened=opened,
    )


def _state(path: Path) -> str:
    if path.is_dir():
        return folder_state(path)
    stat = path.stat()
    row = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(repr(row).encode()).hexdigest()


def _open_local(name: str, path: Path, config_name: str | None) -> Opened:
    with without_bars("datasets"):
        return attempt(name, lambda: open_path(name, path, config_name), "check its files")


def _find_on_hub(data: str, config_name: str | None) -> Source:
    name, _, revision = data.partition("@")
    if data.startswith((".", "/", "~")) or "\\" in data or name.count("/") > 1:
        raise DataError(f"data: no such folder {data}; check the path")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@\S+)?", data):
        forms = f"{', '.join(BUILT_IN)}, a folder of images or parquet files, or a Hub id org/name[@revision]"
        raise DataError(f"data: {data!r} isn't one of: {forms}; use one of these")
    builder = hub_builder(name, revision or None, config_name)
    _refuse_mixture(name, builder)
    state = f"{name} {builder.hash} {builder.config.name}"
    found = f"{name}@{builder.hash}"
    return _table_source(name, state, lambda: Opened(builder, []), found)


def _refuse_mixture(name: str, builder: DatasetBuilder) -> None:
    """Refuse splits that `datasets` takes for one, since it doesn't know their names (`Train/`, `Test/`).

    Raises:
        DataError: it says what to do.
    """
    files = builder.config.data_files or {}
    if list(map(str, files)) != ["train"]:
        return
    # hf://datasets/org/name@commit/path
    paths = [PurePosixPath(str(file).partition("@")[2].partition("/")[2]) for file in files["train"]]
    splits = find_splits(name, paths, sharded=builder.name != "imagefolder").splits
    if len(splits) > 1:
        raise DataError(
            f"data: {name} has files of {' and '.join(splits)} by their names, which `datasets` takes for one split; "
            f"run `hf download {name} --repo-type dataset --local-dir DIR`, and name DIR"
        )


def _open_built_in(name: str, request: Request) -> Part:
    channels = BUILT_IN[name].channels
    if request.channels not in ("auto", channels):
        raise SettingsError(f"channels: {name} has {channels}, not {request.channels}; use {channels} or auto")
    for option, known in (("image_column", ("image",)), ("label_column", ("label", "none"))):
        if (asked := getattr(request, option)) not in (None, *known):
            raise SettingsError(f"{option}: {name} has no column {asked!r}; use {' or '.join(known)}")
    if request.condition:
        raise no_condition(name, request.condition[0], ("image", "label"))
    _, count = _count_built_in(name, request.split)
    labelled = request.label_column != "none"

    def chunks() -> Iterator[Chunk]:
        for start in range(0, count, _CHUNK):
            drawn = glyphs.draw(name, request.split, start, min(_CHUNK, count - start), request.resolution)
            yield Chunk(drawn.images, drawn.labels if labelled else None, skipped=0)

    shape = (count, channels, request.resolution, request.resolution)
    return Part(shape, BUILT_IN[name].label_names if labelled else None, chunks(), request.split)


def _count_built_in(name: str, split: str) -> tuple[str, int]:
    if split not in glyphs.SPLIT_SIZES:
        raise no_split(name, split, list(glyphs.SPLIT_SIZES))
    return split, glyphs.SPLIT_SIZES[split]
