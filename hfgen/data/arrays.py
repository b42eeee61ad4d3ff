"""Arrays of images, as `.npy` files and `.npz` archives hold them -> a table.

A file of samples as ADM and LlamaGen write it is one: `arr_0` uint8 (N, H, W, 3), and perhaps labels `arr_1` (N,).
So are those of MedMNIST (`train_images`, `train_labels`, ...) and Keras (`x_train`, `y_train`, ...).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfgen.data.layout import meaning
from hfgen.data.tables import BATCH, Batch
from hfgen.errors import DataError

if TYPE_CHECKING:
    from datasets import Features

_CHANNELS = (1, 3, 4)


def holds_many(path: Path) -> bool:
    """Whether a `.npy` file is no single image: an array of images, or of labels.

    Raises:
        DataError: it is damaged, or pickled.
    """
    return not _is_image(_load(path))


class Arrays:
    """One array of images a split, and perhaps one of labels; see `hfgen.data.tables.Table`."""

    def __init__(self, name: str, files: list[Path]) -> None:
        """Read the headers.

        Raises:
            DataError: it isn't clear which array holds a split's images.
        """
        from datasets import List, Value

        arrays = {path: _load(path) for path in files}
        images = {path: array for path, array in arrays.items() if _are_images(array)}
        if not images:
            raise DataError(f"data: {name} holds no array of images, (N, H, W, C) of uint8, only {_shapes(arrays)}")
        told = {path: meaning(path.stem) or meaning(path.parent.name) for path in images}
        splits = [told[path] if len(images) > 1 else told[path] or "train" for path in images]
        if None in splits or len(set(splits)) < len(splits):
            raise DataError(
                f"data: {name} holds several arrays of images, {_shapes(images)}; "
                "keep one, or name them by their splits, as train_images and test_images"
            )
        self.notes: list[str] = []
        self._images = dict(zip(map(str, splits), images.values(), strict=True))
        self.splits = list(self._images)
        self._labels = {
            str(split): labels
            for split, path in zip(splits, images, strict=True)
            if (labels := self._find_labels(path, images[path], arrays)) is not None
        }
        pixels = List(List(List(Value("uint8"))))
        self.features: Features = _features(image=pixels, **({"label": Value("int64")} if self._labels else {}))

    def _find_labels(self, path: Path, images: np.ndarray, arrays: Mapping[Path, np.ndarray]) -> np.ndarray | None:
        split = meaning(path.stem)
        rest = {
            other: array
            for other, array in arrays.items()
            if other != path and other.parent == path.parent and meaning(other.stem) in (split, None) and array.ndim
        }
        for array in rest.values():
            if array.size == len(array) == len(images) and array.dtype.kind in "iubU":
                return array.reshape(-1)
        if beside := {other: array for other, array in rest.items() if len(array) == len(images)}:
            self.notes.append(f"labels are left out: {_shapes(beside)} isn't one class an image")
        return None

    def count(self, split: str) -> int:
        """See `Table`."""
        return len(self._images[split])

    def batches(self, split: str, rows: np.ndarray, columns: Mapping[str, str]) -> Iterator[Batch]:
        """See `Table`."""
        for start in range(0, len(rows), BATCH):
            numbers = rows[start : start + BATCH]
            batch: dict[str, list[Any]] = {"image": list(self._images[split][numbers])}
            if "label" in columns:
                labels = self._labels.get(split)
                batch["label"] = [None] * len(numbers) if labels is None else labels[numbers].tolist()
            yield numbers, batch

    def values(self, column: str, field: str | None = None) -> Counter[Any]:
        """See `Table`."""
        counts: Counter[Any] = Counter()
        for labels in self._labels.values():
            found, numbers = np.unique(labels, return_counts=True)
            counts += Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
        return counts


def _features(**columns: Any) -> Features:
    from datasets import Features

    return Features(columns)


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # A damaged header raises almost anything.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"data: {path.name} can't be read ({reason}); save plain arrays, without objects") from error


def _is_image(array: np.ndarray) -> bool:
    """(H, W), (H, W, C) or (C, H, W)."""
    channels = {array.shape[0], array.shape[-1]} if array.ndim == 3 else {1}
    return (
        array.ndim in (2, 3)
        and min(array.shape) > 0
        and not channels.isdisjoint(_CHANNELS)
        and 1 not in array.shape[:2]
    )


def _are_images(array: np.ndarray) -> bool:
    """(N, H, W, C), (N, C, H, W) or (N, H, W); the kind of its numbers is checked image by image."""
    if array.ndim == 4:
        return array.shape[3] in _CHANNELS or array.shape[1] in _CHANNELS
    return array.ndim == 3 and min(array.shape[1:]) > 1


def _shapes(arrays: Mapping[Path, np.ndarray]) -> str:
    return ", ".join(f"{path.stem} {array.dtype}{list(array.shape)}" for path, array in arrays.items())
