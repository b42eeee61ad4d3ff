"""The evaluation dataset: parquet with lossless pixels, the record, the extractor and a card; written and read."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfgen.devices import return_free_memory
from hfgen.errors import UserError
from hfgen.evaluation.workspace import scratch
from hfgen.files import atomic_folder
from hfgen.images import from_pil, to_pil

_FILE = "test-00000-of-00001.parquet"
_ROWS, _IMAGES, _PIXELS, _TASK = 256, 32, 2**22, 16


def write_dataset(
    columns: dict[str, Any],
    folder: Path,
    label_names: list[str] | None = None,
    add: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write columns as parquet; `load_dataset(folder)` reads them. Rows are converted a few at a time.

    Args:
        columns: By name: PIL images or uint8 (N, C, R, R), kept as PNG; numbers, a list or (N,); vectors (N, L). As
            long as the first; images that are fewer leave the last rows empty.
        folder: Replaced whole, or left as it was.
        label_names: Names of the classes in the column `label`.
        add: Writes more files into the folder.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(next(iter(columns.values())))
    # Large images, of which a few are held as pixels and as PNG, are few at a time.
    sizes = [part.shape[2:].numel() for part in columns.values() if isinstance(part, Tensor) and part.ndim == 4]
    step = max(1, min(_ROWS, _PIXELS // max(sizes, default=1)))
    schema = datasets.Features(
        {name: _feature(name, values, label_names) for name, values in columns.items()}
    ).arrow_schema
    with atomic_folder(folder) as temporary:
        with pq.ParquetWriter(temporary / _FILE, schema) as writer:
            for first in range(0, count, step):
                rows = slice(first, min(first + step, count))
                parts = [_values(values[rows], rows.stop - first) for values in columns.values()]
                arrays = [pa.array(part, type=field.type) for part, field in zip(parts, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        add(temporary)


def _feature(name: str, values: Any, label_names: list[str] | None) -> Any:
    import datasets
    from PIL import Image

    if isinstance(values[0], Image.Image) or (isinstance(values, Tensor) and values.ndim == 4):
        return datasets.Image()
    if name == "label" and label_names is not None and int(min(values)) >= 0:
        return datasets.ClassLabel(names=label_names)
    if isinstance(values, Tensor):
        number = datasets.Value(str(values.dtype).removeprefix("torch."))
        return number if values.ndim == 1 else datasets.List(number)
    return datasets.Value("int64" if isinstance(values[0], int) else "float64")


def _values(part: Any, count: int) -> Any:
    if isinstance(part, Tensor) and part.ndim != 4:
        return part.tolist() if part.ndim == 1 else list(part.flatten(1).numpy())
    if isinstance(part, Tensor) or (len(part) and hasattr(part[0], "save")):
        images, workers = to_pil(part) if isinstance(part, Tensor) else part, torch.get_num_threads()
        # A task costs as much as half a small image.
        size = min(_TASK, -(-len(images) // workers)) or 1
        tasks = [images[first : first + size] for first in range(0, len(images), size)]
        # zlib leaves the interpreter to others meanwhile.
        with ThreadPoolExecutor(workers) as threads:
            rows: list[Any] = list(chain.from_iterable(threads.map(_pngs, tasks)))
        return rows + [None] * (count - len(rows))
    return part


def _pngs(images: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"bytes": _png(image), "path": None} for image in images]


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    # Above 3, zlib takes a third longer for 3 % less.
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def read_dataset(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Those of the columns `names` that are there: images as uint8 (N, C, R, R), empty rows left out.

    Raises:
        UserError: there is no such dataset, or it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / _FILE
    if not path.is_file():
        raise UserError(f"dataset: there is no {path}; give the --out of `hfgen evaluate`, or its dataset/")
    try:
        file = pq.ParquetFile(path)
        return {name: _column(file, name) for name in names if name in file.schema_arrow.names}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"dataset: {path} is damaged ({str(error).splitlines()[0]}); get it again") from None


def _column(file: Any, name: str) -> Tensor:
    kind = file.schema_arrow.field(name).type
    are_images = str(kind).startswith("struct")
    batches = (batch.column(0) for batch in file.iter_batches(_IMAGES if are_images else _ROWS, columns=[name]))
    if are_images:
        return _images(batches, file.metadata.num_rows)
    parts = [_numbers(batch) for batch in batches]
    return torch.from_numpy(np.concatenate(parts))


def _numbers(array: Any) -> np.ndarray:
    values = array.flatten() if hasattr(array, "flatten") and "list" in str(array.type) else array
    return values.to_numpy(zero_copy_only=False).reshape(len(array), -1) if values is not array else array.to_numpy()


def _images(batches: Any, count: int) -> Tensor:
    from PIL import Image

    images: Tensor | None = None
    done = 0
    for batch in batches:
        rows = [Image.open(io.BytesIO(row["bytes"])) for row in batch.to_pylist() if row is not None]
        if not rows:
            break
        pixels = from_pil(rows, 1 if rows[0].mode == "L" else 3)
        if images is None:
            images = scratch((count, *pixels.shape[1:]))
        images[done : done + len(pixels)] = pixels
        done += len(pixels)
        # Between what a batch frees lies what the next one keeps: glibc would hold both.
        return_free_memory()
    assert images is not None, "a column of images isn't empty"
    return images[:done]
