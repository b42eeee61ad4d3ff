"""Shared by all tests: a cache of their own, and tiny runs that are trained once."""

import os
from pathlib import Path

import pytest
from tiny import TINY, tiny_config

os.environ["HF_HUB_OFFLINE"] = "1"


# The files that take a minute and more. They begin first, so that no worker is left with one of them at the end.
LONGEST = (
    "test_studies.py",
    "test_readme.py",
    "test_publishing_models.py",
    "test_training_kills.py",
    "test_quickstart.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front; `scripts/test.sh` keeps this order."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def hfgen_cache(tmp_path_factory: pytest.TempPathFactory):
    """Decoded data and extractors of this session, kept apart from the user's."""
    old = os.environ.get("HFGEN_CACHE")
    os.environ["HFGEN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HFGEN_CACHE")
    if old is not None:
        os.environ["HFGEN_CACHE"] = old


@pytest.fixture(scope="session")
def glyph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 glyphs of 16 px, half of them for testing, in three classes."""
    from hfgen.data import draw
    from hfgen.images import to_pil

    folder = tmp_path_factory.mktemp("glyphs")
    for split in ("train", "test"):
        for index, image in enumerate(to_pil(draw("glyphs", split, 0, 100, 16).images)):
            path = folder / split / "abc"[index % 3] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return folder


@pytest.fixture(scope="session", params=sorted(TINY))
def family(request: pytest.FixtureRequest) -> str:
    """Each family in turn."""
    return request.param


@pytest.fixture(scope="session")
def trained(family: str, glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run."""
    from hfgen.training.train import train

    out = tmp_path_factory.mktemp("runs") / family
    train(tiny_config(family, glyph_folder), out)
    return out
