"""Shared by all tests: a cache of their own, and tiny runs that are trained once."""

import gc
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from tiny import TINY, time_costs_once, tiny_config

os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples in every run, however slow the machine.
hypothesis.settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fixed")


# The files that take the longest. They begin first, so that no worker is left with one of them at the end.
LONGEST = (
    "test_readme.py",
    "test_studies.py",
    "test_training_kills.py",
    "test_publishing_models.py",
    "test_cli.py",
    "test_space_browser.py",
    "test_second_device.py",
    "test_training_processes.py",
    "test_training_fsdp.py",
    "test_diagnosis.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front; `scripts/test.sh` keeps this order."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish() -> None:
    """What all the tests import stays: the garbage collector needn't walk it again and again."""
    if "torch" in sys.modules:
        time_costs_once()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def hfgen_cache(tmp_path_factory: pytest.TempPathFactory):
    """Decoded data and extractors of this session, kept apart from the user's."""
    old = os.environ.get("HFGEN_CACHE")
    os.environ["HFGEN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HFGEN_CACHE")
    if old is not None:
        os.environ["HFGEN_CACHE"] = old


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the command shows, also where a test calls the library."""
    caplog.set_level("INFO", logger="hfgen")
    return caplog


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws without a generator doesn't depend on the tests before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow's decoder in a tenth of its passes."""
    from hfgen.pipelines import FlowPipeline

    monkeypatch.setattr(FlowPipeline, "steps", 2)


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
def trained_of(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's finished tiny run, trained once a session: pytest forgets a fixture's other families."""
    from hfgen.training.train import train

    @cache
    def run(family: str) -> Path:
        out = tmp_path_factory.mktemp("runs") / family
        train(tiny_config(family, glyph_folder), out)
        return out

    return run


@pytest.fixture(scope="session")
def trained(family: str, trained_of: Callable[[str], Path]) -> Path:
    """The folder of a finished tiny run, which nobody changes."""
    return trained_of(family)
