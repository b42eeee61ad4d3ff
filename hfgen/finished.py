"""A finished evaluation's folder -> what was measured and the images behind it, without the model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.evaluation import Evaluation
from hfgen.files import read_json
from hfgen.images import from_pil

# What only the folder of a model or of its run holds.
_OF_MODELS = ("model_index.json", "config.json", "pretrained", "checkpoints")


def is_finished(folder: Path, *, given_data: bool) -> bool:
    """Whether to read the evaluation in `folder` instead of measuring a model.

    A run's folder may hold both: its model is measured where data are given.

    Raises:
        UserError: no data are given, and no evaluation is there.
    """
    finished = (folder / "record.json").is_file() and (folder / "dataset").is_dir()
    if not finished and not given_data:
        raise UserError(f"data: none given, and {folder} holds no record.json with dataset/; give --data to measure it")
    return finished and not (given_data and any((folder / part).exists() for part in _OF_MODELS))


def read_evaluation(folder: Path) -> Evaluation:
    """Read `folder`/record.json and `folder`/dataset/.

    Raises:
        UserError: one of them is missing, damaged, or they don't fit each other.
    """
    record = read_json(folder / "record.json")
    try:
        columns, count = _columns(folder / "dataset"), record["data"]["n"]
        images = {name: _images(columns[name]) for name in ("original", "reconstruction", "sample") if name in columns}
        originals, samples = images["original"], images["sample"]
        if any(part.shape != (count, *originals.shape[1:]) for part in images.values()):
            raise ValueError(f"not {count} images of one size a column")
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder}: record.json and dataset/ don't fit: {reason}; evaluate the model again") from None
    labels = torch.tensor(columns["label"]) if "label" in columns else None
    return Evaluation(record, originals, labels, images.get("reconstruction"), samples, columns.get("seed", []))


def _columns(folder: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise ValueError("no parquet file")
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pydict()


def _images(cells: list[dict[str, Any]]) -> Tensor:
    from PIL import Image

    pictures = [Image.open(io.BytesIO(cell["bytes"])) for cell in cells]
    return from_pil(pictures, channels=1 if pictures[0].mode == "L" else 3)
