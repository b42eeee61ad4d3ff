"""Small pictures whose colour says which they are, and folders of them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from hfgen.data import ImageStore

RED, GREEN, BLUE, GREY = (200, 40, 40), (40, 180, 60), (40, 60, 200), (128,)


def picture(colour: tuple[int, ...] = RED, seed: int = 0, side: int = 8) -> Image.Image:
    """Noise about a colour; no two seeds give the same."""
    pixels = np.random.default_rng(seed).normal(colour, 9, (side, side, len(colour))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if len(colour) == 1 else pixels)


def png(colour: tuple[int, ...] = RED, seed: int = 0, side: int = 8) -> bytes:
    """The same as a file's content."""
    file = io.BytesIO()
    picture(colour, seed, side).save(file, "PNG")
    return file.getvalue()


def write_pictures(folder: Path, count: int, colour: tuple[int, ...] = RED, suffix: str = ".png") -> None:
    """Files 000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture(colour, index).save(folder / f"{index:03d}{suffix}")


def without_pictures(page: str) -> str:
    """What a page says: the base64 of its pictures may spell any short word."""
    return re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]*", "", page)


def colours(store: ImageStore) -> set[str]:
    """Which of the channels is the brightest, over all the images."""
    means = store.images.float().mean((2, 3))
    return {("red", "green", "blue")[channel] for channel in means.argmax(1).tolist()}


def labels_fit(store: ImageStore) -> bool:
    """Whether each image has the class that is called like its colour."""
    assert store.labels is not None and store.label_names is not None
    brightest = store.images.float().mean((2, 3)).argmax(1).tolist()
    names = [("red", "green", "blue")[channel] for channel in brightest]
    return names == [store.label_names[label] for label in store.labels.tolist()]
