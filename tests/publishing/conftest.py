"""A Hub, an evaluation to publish, and the command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub, User, client_environment
from hub.accounts import READER, RECORD, TOKEN, Command


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub where `me` may write to `org`, and `reader` nowhere."""
    with Hub(tmp_path / "hub") as hub:
        hub.storage.users = {TOKEN: User("me", namespaces=("org",)), READER: User("reader", may="read")}
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Command:
    """Run Python source, or arguments of `hfgen`, as a client of the Hub; no token is ever printed."""

    def run(*arguments: object, code: str | None = None, token: str | None = TOKEN, **environment: str):
        program = ["-c", code] if code is not None else ["-m", "hfgen"]
        command = [sys.executable, *program, *map(str, arguments)]
        own = client_environment(hub, tmp_path / "home", token, **environment)
        done = subprocess.run(command, env=own, cwd=tmp_path, capture_output=True, text=True)
        assert TOKEN not in done.stdout + done.stderr and READER not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """What `hfgen evaluate` leaves: record.json and dataset/."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature
    from PIL import Image

    folder = tmp_path / "evaluation"
    (folder / "dataset").mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(RECORD))
    images = [Image.new("L", (8, 8), index) for index in range(12)]
    columns = {"original": images, "sample": images[::-1], "seed": list(range(12))}
    features = Features({"original": ImageFeature(), "sample": ImageFeature(), "seed": Value("int64")})
    Dataset.from_dict(columns, features=features).to_parquet(folder / "dataset" / "test-00000-of-00001.parquet")
    return folder
