"""The data of `benchmark.py faults`: ten classes of some data as they are, upscaled, smooth, and less three classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.data import ImageStore

RESOLUTION, CLASSES = 16, 10
LEFT_OUT = (1, 4, 8)
_TRAIN, _TEST = 6000, 1000


def channels_of(data: Path) -> int:
    """Of the images that were written."""
    from hfgen.data import open_store

    return open_store(str(data / "complete"), split="test", resolution=RESOLUTION).channels


def write_data(data: str, folder: Path) -> None:
    """`complete`, `smooth`; `incomplete`: the train split lacks three classes; `blurred`: halved and upscaled again."""
    import torch

    from hfgen.data import open_store
    from hfgen.files import atomic_folder

    kinds = {"blurred": _upscaled, "smooth": _smooth, "incomplete": _same, "complete": _same}
    for split, most in (("train", _TRAIN), ("test", _TEST)):
        images, labels = _first(open_store(data, split=split, resolution=RESOLUTION), most)
        left_out = torch.isin(labels, torch.tensor(LEFT_OUT)) & (split == "train")
        for kind, change in kinds.items():
            rows = ~left_out if kind == "incomplete" else torch.ones_like(left_out)
            with atomic_folder(folder / f"{kind}-{split}") as temporary:
                _write_split(change(images[rows]), labels[rows], temporary / f"{split}.parquet")
    for kind in kinds:
        with atomic_folder(folder / kind) as temporary:
            for split in ("train", "test"):
                (folder / f"{kind}-{split}" / f"{split}.parquet").rename(temporary / f"{split}.parquet")


def _same(images: Tensor) -> Tensor:
    return images


def _smooth(images: Tensor) -> Tensor:
    """As subjects are that have no edges: blurred by 1.5 pixels, at the resolution that they have."""
    import torch
    from torch.nn.functional import conv2d, pad

    line = torch.exp(-0.5 * (torch.arange(-4, 5) / 1.5) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(images.shape[1], 1, -1, -1)
    framed = pad(images.float(), (4, 4, 4, 4), mode="replicate")
    return conv2d(framed, kernel, groups=images.shape[1]).round().clamp(0, 255).to(images.dtype)


def _first(store: ImageStore, most: int) -> tuple[Tensor, Tensor]:
    """The first images of the first ten classes."""
    from hfgen.errors import UserError

    if store.labels is None:
        raise UserError("data: it has no labels; give labelled data")
    rows = ((store.labels >= 0) & (store.labels < CLASSES)).nonzero()[:most, 0]
    return store.gather(rows), store.labels[rows]


def _upscaled(images: Tensor) -> Tensor:
    from torch.nn.functional import interpolate

    small = interpolate(images.float(), scale_factor=0.5, mode="area")
    large = interpolate(small, scale_factor=2, mode="bilinear")
    return large.round().clamp(0, 255).to(images.dtype)


def _write_split(images: Tensor, labels: Tensor, path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image

    from hfgen.images import to_pil

    features = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES)})
    Dataset.from_dict({"image": to_pil(images), "label": labels.tolist()}, features=features).to_parquet(path)
