"""Folders of random images, shards of parquet files, and the stores that are kept of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hfgen.data import ImageStore


def write_images(folder: Path, count: int, *, start: int = 0, size: int = 8, channels: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        pixels = np.random.default_rng(index).integers(0, 256, (size, size, channels), np.uint8)
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(folder / f"{index:03d}.png")


def entries() -> list[Path]:
    return sorted(Path(os.environ["HFGEN_CACHE"], "stores").glob("[!.]*"))


def equal(left: ImageStore, right: ImageStore) -> bool:
    return left.fingerprint == right.fingerprint and torch.equal(left.images, right.images)


def write_shards(folder: Path, sizes: Sequence[int], *, split: str = "train", size: int = 8) -> None:
    """Parquet files of as many images, each of its own colour, in row groups of 16; one label a shard."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b", "c"])})
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for shard, count in enumerate(sizes):
        colours = [(number % 256, number // 256, shard) for number in range(first, first + count)]
        images = [Image.new("RGB", (size, size), colour) for colour in colours]
        table = Dataset.from_dict({"image": images, "label": [shard % 3] * count}, features=features)
        path = folder / f"{split}-{shard:05d}-of-{len(sizes):05d}.parquet"
        pq.write_table(table.with_format("arrow")[:], path, row_group_size=16)
        first += count
