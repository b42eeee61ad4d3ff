"""Paired data that are made at once."""

from pathlib import Path

import torch

DRAWING = ("drawing", 1)
"""The column of conditions that `write_pairs` writes, and their channels."""


def write_pairs(folder: Path, train: int = 150, test: int = 20, scale: int = 1) -> torch.Tensor:
    """Coloured images and, `scale` times as large, their negative in grey: (N, 4, 16, 16), target and condition."""
    import datasets

    from hfgen.data import draw
    from hfgen.images import to_pil

    targets = draw("stacked", "train", 0, train + test, 16).images
    drawings = 255 - targets[:, :1]
    large = drawings.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    features = datasets.Features(
        {"drawing": datasets.Image(), "image": datasets.Image(), "note": datasets.Value("string")}
    )
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", slice(0, train)), ("test", slice(train, None))):
        images, conditions = to_pil(targets[rows]), to_pil(large[rows])
        table = {"drawing": conditions, "image": images, "note": ["x"] * len(images)}
        datasets.Dataset.from_dict(table, features=features).to_parquet(folder / "data" / f"{split}-0.parquet")
    return torch.cat([targets, drawings], 1)
