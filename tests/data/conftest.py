from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test decodes for itself and leaves nothing behind, nor in the folder that may be its data."""
    import datasets

    caches: Path = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("HFGEN_CACHE", str(caches / "hfgen"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", caches / "datasets")
