"""What the benchmarks' tests share."""

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch):
    """The package of benchmarks, which isn't installed."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import benchmarks

    return benchmarks
