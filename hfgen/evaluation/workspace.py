"""Arrays on the disk, filled batch by batch: memory doesn't grow with them, and an interrupted run goes on."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hfgen.bars import quiet
from hfgen.errors import UserError
from hfgen.files import cache_dir, read_json, write_json

_FOLDER, _KEY = ".partial", "key.json"
_ROWS = 256
# Seconds: to be certain of what is on the disk takes milliseconds, on a busy one many.
_KEPT_AFTER = 1.0


@contextlib.contextmanager
def workspace(out: Path | None, key: dict[str, Any]) -> Iterator[Path]:
    """A folder for `fill`, removed at the end; the mapped arrays outlive it.

    Within `out` it survives an interruption: the next call with the same `key` finds it, one with another starts
    anew. After a user's error nothing is left. Without `out` it is temporary.
    """
    if out is None:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir()) as temporary:
            yield Path(temporary)
        return
    folder, is_new = out / _FOLDER, not out.exists()
    if _read(folder / _KEY) != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _KEY, key)
    try:
        yield folder
    except UserError:
        shutil.rmtree(folder)
        if is_new:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    shutil.rmtree(folder)


Make: TypeAlias = Callable[[list[slice]], list[dict[str, Tensor]]]


def fill(
    folder: Path, group: str, count: int, batch: int, make: Make, what: str, at_once: int = 1
) -> dict[str, Tensor]:
    """Arrays (count, ...) by name, mapped from `folder`, whose rows `make` gives for some slices after others.

    A batch counts once it is on the disk: rows of an earlier call aren't made again. What a kill loses was made in the
    last second, where one slice takes about as long as the next. `what` names the progress bar. `at_once`: how many
    slices `make` is given.
    """
    progress = folder / f"{group}.json"
    done, arrays = _resume(folder, group, progress)
    slices = [slice(first, min(first + batch, count)) for first in range(done, count, batch)]

    def keep() -> None:
        for array in arrays.values():
            array.flush()
        write_json(progress, {"done": done, "arrays": sorted(arrays)})

    kept_at = began = time.monotonic()
    try:
        with tqdm(total=count, initial=done, desc=what, unit="img", leave=False, disable=quiet()) as bar:
            for first in range(0, len(slices), at_once):
                some = slices[first : first + at_once]
                for rows, tensors in zip(some, make(some), strict=True):
                    for name, value in tensors.items():
                        if name not in arrays:
                            arrays[name] = _mapped(folder / f"{group}.{name}.npy", count, value)
                        arrays[name][rows] = value.cpu().numpy()
                    done = rows.stop
                    bar.update(rows.stop - rows.start)
                now = time.monotonic()
                # After the next ones they would be too old.
                if now - kept_at + now - began > _KEPT_AFTER:
                    keep()
                    kept_at = now
                began = now
        keep()
    except BaseException:
        # What ended it is said, also where the disk is full.
        with contextlib.suppress(OSError):
            keep()
        raise
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _mapped(path: Path, count: int, values: Tensor) -> np.memmap:
    """A new file of an array (count, ...) like values (N, ...)."""
    kind = values[:0].cpu().numpy().dtype
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(count, *values.shape[1:]))


def scratch(shape: tuple[int, ...]) -> Tensor:
    """uint8 zeros in a file that vanishes with them."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_dir()) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))


def gather(rows: Callable[[Tensor], Tensor], indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The uint8 images (n, *shape) that `rows` gives for `indices` (n,), in `scratch`."""
    images = scratch((len(indices), *shape))
    for part, chosen in zip(images.split(_ROWS), indices.split(_ROWS), strict=True):
        part.copy_(rows(chosen))
    return images


def _resume(folder: Path, group: str, progress: Path) -> tuple[int, dict[str, Any]]:
    state = _read(progress)
    try:
        arrays = {name: np.load(folder / f"{group}.{name}.npy", mmap_mode="r+") for name in state["arrays"]}
        return int(state["done"]), arrays
    except (OSError, EOFError, ValueError, TypeError, KeyError):
        return 0, {}


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (UserError, OSError):
        return None
