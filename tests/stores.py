"""Folders of random images, and the stores that are kept of them."""

from __future__ import annotations

import os
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
