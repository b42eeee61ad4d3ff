"""The built-in sets as parquet files, which `datasets` reads and publishing takes."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hfgen.data import glyphs
from hfgen.data_options import BUILT_IN
from hfgen.errors import UserError
from hfgen.files import atomic_folder, write_json
from hfgen.images import to_pil

FACTS = "data.json"
"""What was drawn, and how; it lies beside the folder `dataset`."""

_CHUNK = 256


def export(name: str, folder: Path, resolution: int = 32, sizes: Mapping[str, int] = glyphs.SPLIT_SIZES) -> None:
    """Write `folder` anew: data.json, and dataset/ with a parquet file a split.

    Columns: `image` (PNG), `label`, and each of `FACTORS` as a list with one number a channel.

    Args:
        name: One of `BUILT_IN`.
        folder: Replaced whole, or left as it was.
        resolution: Pixels a side.
        sizes: Images by split.

    Raises:
        UserError: a resolution below `SMALLEST`.
    """
    if resolution < glyphs.SMALLEST:
        raise UserError(f"resolution: {resolution} is too small to draw a letter; use {glyphs.SMALLEST} or more")
    facts = {
        "name": name,
        "version": glyphs.VERSION,
        "resolution": resolution,
        "splits": dict(sizes),
        "factors": list(glyphs.FACTORS),
        "fonts": list(glyphs.FONTS),
    }
    with atomic_folder(folder) as temporary:
        (temporary / "dataset").mkdir()
        for split, count in sizes.items():
            _write_split(name, split, count, resolution, temporary / "dataset" / f"{split}-00000-of-00001.parquet")
        write_json(temporary / FACTS, facts)


def _write_split(name: str, split: str, count: int, resolution: int, path: Path) -> None:
    import datasets

    labels = BUILT_IN[name].label_names
    factors = {factor: datasets.List(datasets.Value("float64")) for factor in glyphs.FACTORS}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=labels), **factors})
    with tempfile.TemporaryDirectory() as cache:
        options = {"name": name, "split": split, "count": count, "resolution": resolution}
        rows = datasets.Dataset.from_generator(_rows, features=features, cache_dir=cache, gen_kwargs=options)
        rows.to_parquet(path)


def _rows(name: str, split: str, count: int, resolution: int) -> Iterator[dict[str, Any]]:
    for start in range(0, count, _CHUNK):
        drawn = glyphs.draw(name, split, start, min(_CHUNK, count - start), resolution)
        for image, label, factors in zip(to_pil(drawn.images), drawn.labels.tolist(), drawn.factors, strict=True):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            causes = dict(zip(glyphs.FACTORS, factors.T.tolist(), strict=True))
            yield {"image": {"bytes": buffer.getvalue(), "path": None}, "label": label, **causes}
