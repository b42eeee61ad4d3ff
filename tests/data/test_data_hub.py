"""A Hub id, with the real clients against the loopback Hub."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub import Hub, client_environment
from PIL import Image

OPEN = """
import sys
from hfgen.data import open_store
from hfgen.errors import UserError
for data in sys.argv[1:]:
    try:
        store = open_store(data, resolution=8)
        print(len(store), store.source, store.revision, *(["labels"] if store.labels is not None else []))
    except UserError as error:
        print("UserError", error)
"""


STREAM = """
import sys
import hfgen.data.tables
from hfgen.data import open_store
from hfgen.errors import UserError
if sys.argv[1] == "full":  # As if the disk were.
    hfgen.data.tables.free_disk = lambda folder: 0
for place in sys.argv[2:]:
    data, split = place.split(":")
    try:
        store = open_store(data, split=split, resolution=8)
        print(len(store), store.channels, store.label_names, store.source, store.fingerprint)
    except UserError as error:
        print("UserError", error)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "name").mkdir()
    for index in range(20):
        Image.new("L", (8, 8), index).save(tmp_path / "name" / f"{index:02d}.png")
    with served(tmp_path, "name") as hub:
        yield hub


@contextmanager
def served(tmp_path: Path, *names: str) -> Iterator[Hub]:
    """org/NAME, of the files in `tmp_path`/NAME, on the branches main and v1."""
    with Hub(tmp_path / "hub") as hub:
        for name in names:
            repo = hub.storage.create("dataset", f"org/{name}")
            repo.refs["v1"] = hub.storage.add_folder(repo, tmp_path / name)
        yield hub


def write_shards(folder: Path, *splits: str) -> None:
    """Two parquet files a split, of 150 images each, of two row groups, beside a column of another kind."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"note": Value("string"), "img": ImageFeature(), "label": ClassLabel(names=["even", "odd"])})
    folder.mkdir()
    for shard, split in enumerate(split for split in splits for _ in range(2)):
        numbers = range(150 * shard, 150 * (shard + 1))
        images = [Image.new("RGB", (9, 8), (number % 256, number // 256, 7)) for number in numbers]
        columns = {"note": ["n" * 99] * 150, "img": images, "label": [number % 2 for number in numbers]}
        table = Dataset.from_dict(columns, features=features).with_format("arrow")[:]
        pq.write_table(table, folder / f"{split}-0000{shard % 2}-of-00002.parquet", row_group_size=100)


def opened(home: Path, *data: str, hub: Hub | None = None, code: str = OPEN, **own: str) -> list[str]:
    """A process of its own, since the Hub's address is read at import."""
    environment = client_environment(hub, home, **own)
    command = [sys.executable, "-c", code, *data]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_hub_id_is_opened_at_a_commit_and_then_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    commit, home = hub.repo("org/name", "dataset").resolve("main"), tmp_path / "home"
    lines = opened(home, "org/name", f"org/name@{commit}", "org/name@v2", "org/none", hub=hub)
    assert lines[:2] == [f"18 org/name@{commit} {commit}"] * 2
    assert re.match(r"UserError data: org/name@v2 can't be loaded \(.*'v2'.*\); .*check the name", lines[2])
    assert re.match(r"UserError data: org/none can't be loaded \(.*doesn't exist.*\)", lines[3])

    other = "a" * 40
    lines = opened(home, "org/name", f"org/name@{other}", "org/other", HF_HUB_OFFLINE="1")
    assert lines[0] == f"18 org/name@{commit} {commit}"
    assert lines[1] == f"UserError data: org/name@{other} can't be reached, only {commit} is kept here; go online"
    assert re.match(r"UserError data: org/other can't be loaded \(.*Offline.*\); .*the connection", lines[2])


def test_what_does_not_fit_the_disk_is_streamed_into_the_same_store(tmp_path: Path) -> None:
    write_shards(tmp_path / "undivided", "train")
    write_shards(tmp_path / "divided", "train", "validation")
    asked = ["org/undivided:train", "org/undivided:test", "org/divided:train", "org/divided:validation"]
    with served(tmp_path, "undivided", "divided") as hub:
        whole = opened(tmp_path / "home", "roomy", *asked, hub=hub, code=STREAM)
        own = {"HFGEN_CACHE": str(tmp_path / "streamed")}
        missing = ("org/undivided:v", "org/divided:v")
        streamed = opened(tmp_path / "small", "full", *asked, *missing, hub=hub, code=STREAM, **own)
    assert [line.split()[0] for line in whole] == ["270", "30", "300", "300"]
    assert streamed[:4] == whole
    for line, name, there in zip(
        streamed[4:], ("undivided", "divided"), ("train, test or all", "train or validation"), strict=True
    ):
        assert line == f"UserError split: org/{name} has no split 'v'; use {there}"
    kept = {name: list((tmp_path / name).rglob("*.arrow")) for name in ("home", "small")}
    assert kept["home"] and not kept["small"]
    assert not [path for path in (tmp_path / "small").rglob("*") if path.is_file() and path.stat().st_size > 9_000]


def test_a_stream_that_breaks_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write_shards(tmp_path / "name", "train")
    last = tmp_path / "name" / "train-00001-of-00002.parquet"
    content = bytearray(last.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    last.write_bytes(content)
    with served(tmp_path, "name") as hub:
        own = {"HFGEN_CACHE": str(tmp_path / "streamed")}
        (line,) = opened(tmp_path / "home", "full", "org/name:train", hub=hub, code=STREAM, **own)
    assert re.match(r"UserError data: org/name can't be loaded \(.*\); check that it is complete, the connection", line)
    assert not list((tmp_path / "streamed").rglob("images.npy"))


def test_splits_are_no_classes_and_are_not_mixed(tmp_path: Path) -> None:
    for name, splits in (("usual", ("train", "test")), ("other", ("Train", "Test"))):
        for split in splits:
            (tmp_path / name / split).mkdir(parents=True)
            for index in range(20):
                Image.new("L", (8, 8), index).save(tmp_path / name / split / f"{index:02d}.png")
    with served(tmp_path, "usual", "other") as hub:
        usual, other = opened(tmp_path / "home", "org/usual", "org/other", hub=hub)
    assert re.fullmatch(r"20 org/usual@\w+ \w+", usual), usual
    refused = (
        r"UserError data: org/other has files of train and test by their names, which .*; run `hf download org/other"
    )
    assert re.fullmatch(f"{refused}.*", other), other
