"""What DATA names.

`glyphs` or `stacked`; an existing folder of images (class folders give labels) or of parquet files, with or
without a dataset card; or a Hub id `org/name[@revision]`.

The built-in names win over a folder of that name (write `./glyphs`), and a folder over a Hub id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from hfgen.data import glyphs
from hfgen.data.loading import (
    Chunk,
    Part,
    Request,
    count_rows,
    folder_builder,
    hub_builder,
    no_condition,
    open_folder,
    open_part,
)
from hfgen.data.splits import no_split
from hfgen.errors import UserError
from hfgen.files import folder_state

_BUILT_IN = ("glyphs", "stacked")
_CHUNK = 128


@dataclass(frozen=True)
class Source:
    """DATA, found.

    Attributes:
        name: DATA as given; for a Hub id, with the resolved commit as its revision.
        state: a text that changes with the content.
        open: gives one split.
        count: gives the split that is used where another may be asked for, and its number of images, undecoded.
    """

    name: str
    state: str
    open: Callable[[Request], Part]
    count: Callable[[str], tuple[str, int]]


def find(data: str) -> Source:
    """The source that DATA names. A Hub id is resolved to its commit; no image is fetched or decoded yet.

    Raises:
        UserError: DATA has none of the forms, or isn't there.
    """
    if data in _BUILT_IN:
        # Matplotlib brings the fonts, Pillow the FreeType that draws them.
        drawn_by = f"pillow {version('pillow')} matplotlib {version('matplotlib')}"
        state = f"{data} {glyphs.VERSION} {drawn_by}"
        return Source(data, state, partial(_open_built_in, data), partial(_count_built_in, data))
    folder = Path(data).expanduser()
    if data and folder.is_dir():
        state = folder_state(folder)
        return Source(
            data,
            state,
            partial(open_folder, data, folder),
            lambda split: count_rows(data, folder_builder(folder), split),
        )
    if data and folder.exists():
        raise UserError(f"data: {data} is a file; name the folder that holds it")
    return _find_on_hub(data)


def _find_on_hub(data: str) -> Source:
    name, _, revision = data.partition("@")
    if data.startswith((".", "/", "~")) or "\\" in data or name.count("/") > 1:
        raise UserError(f"data: no such folder {data}; check the path")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@\S+)?", data):
        forms = f"{', '.join(_BUILT_IN)}, a folder of images or parquet files, or a Hub id org/name[@revision]"
        raise UserError(f"data: {data!r} is none of: {forms}; use one of these")
    builder = hub_builder(name, revision or None)
    state = f"{name} {builder.hash} {builder.config.name}"
    return Source(
        f"{name}@{builder.hash}", state, partial(open_part, name, builder), partial(count_rows, name, builder)
    )


def _open_built_in(name: str, request: Request) -> Part:
    channels = 1 if name == "glyphs" else 3
    if request.channels not in ("auto", channels):
        raise UserError(f"channels: {name} has {channels}, not {request.channels}; use {channels} or auto")
    if request.condition:
        raise no_condition(name, request.condition[0], ("image", "label"))
    _, count = _count_built_in(name, request.split)
    label_names = list(glyphs.CLASSES) if name == "glyphs" else [f"{mode:03d}" for mode in range(1000)]

    def chunks() -> Iterator[Chunk]:
        for start in range(0, count, _CHUNK):
            drawn = glyphs.draw(name, request.split, start, min(_CHUNK, count - start), request.resolution)
            yield Chunk(drawn.images, drawn.labels, skipped=0)

    return Part((count, channels, request.resolution, request.resolution), label_names, chunks(), request.split)


def _count_built_in(name: str, split: str) -> tuple[str, int]:
    if split not in glyphs.SPLIT_SIZES:
        raise no_split(name, split, list(glyphs.SPLIT_SIZES))
    return split, glyphs.SPLIT_SIZES[split]
