"""Three untrained models, measured once, and their comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hfgen.comparison.compare import compare
from hfgen.data.glyphs import draw
from hfgen.evaluation.evaluate import Evaluation, evaluate
from hfgen.families import FAMILIES
from hfgen.images import to_pil

SIDE, HELD_OUT = 16, 60
TINY = {"width": 16, "max_width": 16, "latent_channels": 4}


@pytest.fixture(scope="session")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Evaluation]]:
    """Two untrained VAEs and a GAN, measured on glyphs."""
    import datasets

    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFGEN_CACHE", str(folder / "cache"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        for split, count in (("train", 100), ("test", HELD_OUT)):
            _write_glyphs(folder / "images" / split, split, count)
        yield {
            name: evaluate(_save(family, seed, folder / name), str(folder / "images"), n=HELD_OUT)
            for seed, (name, family) in enumerate({"vae": "vae", "other": "vae", "gan": "gan"}.items())
        }


def _write_glyphs(folder: Path, split: str, count: int) -> None:
    drawn = draw("glyphs", split, 0, count, SIDE)
    for index, (image, label) in enumerate(zip(to_pil(drawn.images), drawn.labels.tolist(), strict=True)):
        place = folder / ("digit" if label < 10 else "letter")
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index}.png")


def _save(family: str, seed: int, folder: Path) -> Path:
    settings = FAMILIES[family](**TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings.pipeline(settings.build(SIDE, 1)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def written(evaluations: dict[str, Evaluation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written")
    compare(evaluations, out)
    return out
