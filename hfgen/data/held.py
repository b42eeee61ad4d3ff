"""Images that the caller holds, in place of DATA's address -> a table like that of a folder or a file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hfgen.data.columns import IMAGE_NAMES, LABEL_NAMES
from hfgen.data.splits import canonical
from hfgen.data.tables import BATCH, Batch, Loaded, Table
from hfgen.errors import DataError
from hfgen.images import floats_to_uint8, is_unit

if TYPE_CHECKING:
    from datasets import Features

AS_OBJECT = "(given as an object)"
"""Ends what records call data and models without an address."""

_FORMS = (
    "an address, a tensor (N, C, H, W), an array (N, H, W, C), a list of PIL images, tensors, arrays or files, "
    "a datasets.Dataset, or these by split: {'train': ..., 'test': ...}"
)
# Rounding may leave floats a little beyond their range; ImageNet's normalisation leaves them far beyond.
_ROUNDING = 1e-3
_ORIENTATION = 274


class Held:
    """DATA without an address.

    Attributes:
        name: What records and errors call it.
        state: A text that changes with the content.
        table: The images, undecoded.
        notes: A line for each thing that was converted or left out.
    """

    def __init__(self, name: str, state: str, table: Table, notes: list[str]) -> None:
        self.name, self.state, self.table, self.notes = name, state, table, notes

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and other.state == self.state

    def __hash__(self) -> int:
        return hash(self.state)


Data: TypeAlias = str | Held
"""An address, or what is held in its place."""


def as_data(data: Any) -> Data:
    """An address as it is, and images as `Held`.

    One set is divided as an undivided dataset is: a tenth of it, by a fixed seed, is `test`, and `all` is the whole.

    Args:
        data: An address; or images: a tensor uint8 or float (N, C, H, W), an array (N, H, W, C); a list, or whatever
            has a length and indices as datasets of torch do, of PIL images, tensors (C, H, W), arrays or files, alone
            or as (image, label) or {"image": ..., "label": ...}; a tuple (images, labels); a `datasets.Dataset`; or a
            mapping of splits of any of those, as a `datasets.DatasetDict` is. Floats are in [-1, 1] or, where none is
            negative, in [0, 1].

    Raises:
        DataError: it is none of these, or its numbers are no pixels.
    """
    if isinstance(data, (str, Held)):
        return data
    if isinstance(data, Path):
        return str(data)
    name, notes = f"{type(data).__name__} {AS_OBJECT}", list[str]()
    splits = dict(data) if isinstance(data, Mapping) else {"train": data}
    if not splits or not all(isinstance(split, str) and canonical(split) for split in splits):
        raise DataError(f"data: a {type(data).__name__} of {', '.join(map(repr, splits)) or 'nothing'}; give {_FORMS}")
    if all(map(_is_table, splits.values())):
        tables = {split: _plain(table, notes) for split, table in splits.items()}
        prints = [f"{split} {len(table)} {table._fingerprint}" for split, table in tables.items()]
        return _held(name, f"{prints}", Loaded(tables), notes)
    digest = hashlib.sha256()
    parts = {split: _part(images, name, notes) for split, images in splits.items()}
    for split, part in parts.items():
        digest.update(f"{split} {len(part.cells)} {part.labels}".encode())
        for cell in part.cells:
            _update(digest, cell)
    return _held(name, digest.hexdigest(), _Table(parts), notes)


def _held(name: str, content: str, table: Table, notes: list[str]) -> Held:
    said = list(dict.fromkeys(notes))
    # The notes are kept with the decoded images.
    return Held(name, f"held {name} {content} {said}", table, said)


class _Part(NamedTuple):
    """Of one split: images as `hfgen.data.decode` takes them, and a label each, or None."""

    cells: Sequence[Any] | np.ndarray
    labels: list[Any] | None


class _Table:
    """See `hfgen.data.tables.Table`."""

    def __init__(self, parts: Mapping[str, _Part]) -> None:
        from datasets import Features, List, Value

        self._parts = parts
        self.splits = list(parts)
        labels = [label for part in parts.values() for label in part.labels or () if label is not None]
        kind = Value("int64" if all(isinstance(label, int) for label in labels) else "string")
        pixels = List(List(List(Value("uint8"))))
        self.features: Features = Features({"image": pixels, **({"label": kind} if labels else {})})

    def count(self, split: str) -> int:
        """See `Table`."""
        return len(self._parts[split].cells)

    def batches(self, split: str, rows: np.ndarray, columns: Mapping[str, str]) -> Iterator[Batch]:
        """See `Table`."""
        part = self._parts[split]
        for start in range(0, len(rows), BATCH):
            numbers = rows[start : start + BATCH]
            batch: dict[str, list[Any]] = {"image": [part.cells[row] for row in numbers]}
            if "label" in columns:
                batch["label"] = [None if part.labels is None else part.labels[row] for row in numbers]
            yield numbers, batch

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """See `Table`."""
        return Counter(label for part in self._parts.values() for label in part.labels or ())


def _is_table(images: Any) -> bool:
    return hasattr(images, "features") and hasattr(images, "_fingerprint") and hasattr(images, "with_format")


def _plain(table: Any, notes: list[str]) -> Any:
    """A `datasets.Dataset` without its output format."""
    if getattr(table, "format", {}).get("type") == "custom":
        notes.append("the dataset's transform isn't applied: its stored images are measured")
    return table.with_format(None)


def _part(images: Any, name: str, notes: list[str]) -> _Part:
    """One set of images.

    Raises:
        DataError: it is none.
    """
    if (labelled := _with_labels(images)) is not None:
        images = labelled
    if isinstance(images, (Tensor, np.ndarray)):
        return _Part(_pixels(_channels_last(images), name, notes), None)
    if isinstance(images, Mapping) or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        remedy = "its .dataset" if hasattr(images, "dataset") else _FORMS
        remedy = "a list of them" if isinstance(images, Image.Image) else remedy
        raise DataError(f"data: a {type(images).__name__} isn't a set of images; give {remedy}")
    pairs = [_pair(images[index], name) for index in range(len(images))]
    cells: list[Any] = [cell for cell, _ in pairs]
    floats = [index for index, cell in enumerate(cells) if isinstance(cell, np.ndarray) and cell.dtype.kind == "f"]
    if floats:
        joined = np.concatenate([cells[index].reshape(-1) for index in floats])
        levels, start = _pixels(joined, name, notes), 0
        for index in floats:
            shape, size = cells[index].shape, cells[index].size
            cells[index], start = levels[start : start + size].reshape(shape), start + size
    labels = [_class(given) for _, given in pairs]
    if strange := {type(given).__name__ for _, given in pairs if given is not None and _class(given) is None}:
        notes.append(f"labels of type {', '.join(sorted(strange))} are left out: they are no classes; give int or str")
    return _Part(cells, labels if any(label is not None for label in labels) else None)


def _class(label: Any) -> int | str | None:
    """A label as one class; None where it isn't."""
    if isinstance(label, (Tensor, np.ndarray, np.generic)):
        label = label.item() if np.asarray(label).size == 1 else None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return label if isinstance(label, (int, str)) else None


def _with_labels(images: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of (images, labels); None of anything else. A list of the two may be what a DataLoader gives.

    Raises:
        DataError: they aren't as many.
    """
    if not isinstance(images, (tuple, list)) or len(images) != 2:
        return None
    pixels, labels = images
    if isinstance(pixels, (Tensor, np.ndarray)):
        is_set = pixels.ndim == 4 or (pixels.ndim == 3 and isinstance(images, tuple))
    else:
        is_set = isinstance(images, tuple) and isinstance(pixels, (list, tuple)) and all(map(_is_image, pixels))
    if isinstance(labels, (Tensor, np.ndarray)) and tuple(labels.shape[1:]) in ((), (1,)):
        labels = labels.reshape(-1).tolist()
    if not is_set or not isinstance(labels, (list, tuple)):
        return None
    if not all(one is None or isinstance(one, float) or _class(one) is not None for one in labels):
        return None
    if len(pixels) != len(labels):
        raise DataError(f"data: {len(pixels)} images and {len(labels)} labels; give as many")
    cells = pixels if isinstance(pixels, (list, tuple)) else _channels_last(pixels)
    return list(zip(cells, labels, strict=True))


def _is_image(item: Any) -> bool:
    return isinstance(item, (Image.Image, Tensor, np.ndarray, str, Path, bytes))


def _channels_last(images: Tensor | np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C), of a tensor or an array that has its channels first or last.

    Raises:
        DataError: another shape.
    """
    shape, channels = tuple(images.shape), (1, 3, 4)
    if len(shape) not in (3, 4) or (len(shape) == 3 and shape[-1] in channels):
        forms = "a tensor (N, C, H, W) or an array (N, H, W, C)"
        raise DataError(f"data: shape {shape} isn't a set of images; give {forms}")
    if isinstance(images, Tensor):
        pixels = (images.detach().float() if images.is_floating_point() else images.detach()).cpu().numpy()
    else:
        pixels = images
    is_first, is_last = (len(shape) == 4 and shape[place] in channels for place in (1, -1))
    # Where both may be channels, those of a tensor are first, of an array last.
    first = is_first and (isinstance(images, Tensor) or not is_last)
    return np.moveaxis(pixels, 1, -1) if first else pixels


def _pixels(values: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Floats, of any shape and all of one range, as uint8; whole numbers as they are.

    Raises:
        DataError: NaN, infinity, or floats in no range that images have.
    """
    if values.dtype.kind != "f" or not values.size:
        return values
    floats = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if not floats.isfinite().all():
        raise DataError(f"data: {name} holds NaN or infinity; give finite pixels")
    low, high = float(floats.min()), float(floats.max())
    if low < -1 - _ROUNDING or high > 1 + _ROUNDING:
        raise DataError(f"data: {name} holds floats from {low:.4g} to {high:.4g}; give uint8, or floats in [-1, 1]")
    notes.append(f"floats were taken to be in {'[0, 1]' if is_unit(floats) else '[-1, 1]'}, and rounded to 8 bits")
    return floats_to_uint8(floats, "auto", "data").numpy()


def _pair(item: Any, name: str) -> tuple[Any, Any]:
    """An item's image, as `decode` takes it, and its label or None.

    Raises:
        DataError: there is no image.
    """
    label = None
    if isinstance(item, Mapping) and "bytes" not in item:
        label = next((item[key] for key in LABEL_NAMES if key in item), None)
        item = next((item[key] for key in IMAGE_NAMES if key in item), None)
    elif isinstance(item, (tuple, list)) and len(item) in (1, 2):
        item, label = item if len(item) == 2 else (*item, None)
    if isinstance(item, (str, Path)):
        return {"bytes": None, "path": str(item)}, label
    if isinstance(item, bytes):
        return {"bytes": item, "path": None}, label
    if isinstance(item, Tensor):
        values = item.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        first = values.ndim == 3 and values.shape[0] in (1, 3, 4)
        return (values.movedim(0, -1) if first else values).numpy(), label
    if isinstance(item, (Image.Image, np.ndarray)):
        return item, label
    raise DataError(f"data: {name} holds a {type(item).__name__}, which isn't an image; give {_FORMS}")


def _update(digest: Any, cell: Any) -> None:
    """The content of one image, or of the file that it is in."""
    if isinstance(cell, Image.Image):
        facts = cell.mode, cell.size, cell.getpalette(), cell.info.get("transparency"), cell.getexif().get(_ORIENTATION)
        digest.update(f"{facts}".encode())
        digest.update(cell.tobytes())
    elif isinstance(cell, np.ndarray):
        digest.update(f"{cell.dtype} {cell.shape}".encode())
        digest.update(np.ascontiguousarray(cell).tobytes())
    elif cell["bytes"] is not None:
        digest.update(cell["bytes"])
    else:
        path = Path(cell["path"])
        stat = path.stat() if path.exists() else None
        digest.update(f"{path.resolve()} {stat and (stat.st_size, stat.st_mtime_ns)}".encode())
