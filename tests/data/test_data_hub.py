"""A Hub id, with the real clients against a loopback server that speaks the few requests they make."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

COMMIT = "c0ffee" + "0" * 34
OPEN = """
import sys
from hfgen.data import open_store
from hfgen.errors import UserError
for data in sys.argv[1:]:
    try:
        store = open_store(data, resolution=8)
        print(len(store), store.source, store.revision)
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
for split in sys.argv[2:]:
    try:
        store = open_store("org/name", split=split, resolution=8)
        print(len(store), store.channels, store.label_names, store.source, store.fingerprint)
    except UserError as error:
        print("UserError", error)
"""


class Hub(BaseHTTPRequestHandler):
    """org/name at one commit, on the branches main and v1."""

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "/org/name" not in path:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if (revision := re.search(r"/(?:resolve|revision|tree)/([^/]+)", path)) and revision[1] not in (
            "main",
            "v1",
            COMMIT,
        ):
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/resolve/" in path:
            return self.send_file(path.split("/resolve/")[1].partition("/")[2])
        if "/tree/" in path:
            return self.answer(200, json.dumps([self.entry(file) for file in self.files()]).encode())
        siblings = [{"rfilename": file.name} for file in self.files()]
        info = {"id": "org/name", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        return self.answer(200, json.dumps(info).encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, json.dumps([self.entry(file) for file in self.files()]).encode())

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def entry(self, file: Path) -> dict[str, object]:
        oid = hashlib.sha1(file.read_bytes()).hexdigest()
        return {"type": "file", "path": file.name, "oid": oid, "size": file.stat().st_size}

    def send_file(self, name: str) -> None:
        file = self.folder / name
        if not file.exists():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = file.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            return self.answer(200, content, headers)
        first, last = int(asked[1]), int(asked[2])
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.answer(206, content[first : last + 1], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "repo").mkdir()
    for index in range(20):
        Image.new("L", (8, 8), index).save(tmp_path / "repo" / f"{index:02d}.png")
    yield from served(tmp_path)


def served(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, tmp_path / "repo")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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


def opened(home: Path, *data: str, code: str = OPEN, **environment: str) -> list[str]:
    """A process of its own, since the Hub's address is read at import."""
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    own = {"HF_HOME": str(home), "HF_DATASETS_CACHE": str(home / "datasets")}
    ran = subprocess.run(
        [sys.executable, "-c", code, *data],
        env={**os.environ, **quiet, **own, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


def test_a_hub_id_is_opened_at_a_commit_and_then_without_the_hub(endpoint: str, tmp_path: Path) -> None:
    lines = opened(
        tmp_path / "home",
        "org/name",
        f"org/name@{COMMIT}",
        "org/name@v2",
        "org/none",
        HF_ENDPOINT=endpoint,
    )
    assert lines[:2] == [f"18 org/name@{COMMIT} {COMMIT}"] * 2
    assert re.match(r"UserError data: org/name@v2 can't be loaded \(.*'v2'.*\); .*check the name", lines[2])
    assert re.match(r"UserError data: org/none can't be loaded \(.*doesn't exist.*\)", lines[3])

    other = "a" * 40
    lines = opened(tmp_path / "home", "org/name", f"org/name@{other}", HF_HUB_OFFLINE="1")
    assert lines[0] == f"18 org/name@{COMMIT} {COMMIT}"
    assert lines[1] == f"UserError data: org/name@{other} can't be reached, only {COMMIT} is kept here; go online"


def test_a_hub_id_without_the_hub_is_one_line(tmp_path: Path) -> None:
    (line,) = opened(tmp_path / "home", "org/name", HF_HUB_OFFLINE="1")
    assert re.match(r"UserError data: org/name can't be loaded \(.*Offline.*\); .*the connection", line)


@pytest.mark.parametrize("splits", [["train"], ["train", "validation"]])
def test_what_does_not_fit_the_disk_is_streamed_into_the_same_store(tmp_path: Path, splits: list[str]) -> None:
    write_shards(tmp_path / "repo", *splits)
    asked = ["train", "test" if splits == ["train"] else "validation"]
    with closing(served(tmp_path)) as server:
        endpoint = next(server)
        whole = opened(tmp_path / "home", "roomy", *asked, code=STREAM, HF_ENDPOINT=endpoint)
        own = {"HF_ENDPOINT": endpoint, "HFGEN_CACHE": str(tmp_path / "streamed")}
        streamed = opened(tmp_path / "small", "full", *asked, "v", code=STREAM, **own)
    assert [line.split()[0] for line in whole] == (["270", "30"] if splits == ["train"] else ["300", "300"])
    assert streamed[:2] == whole
    assert streamed[2] == f"UserError split: org/name has no split 'v'; use {' or '.join(splits)}"
    kept = {name: list((tmp_path / name).rglob("*.arrow")) for name in ("home", "small")}
    assert kept["home"] and not kept["small"]
    assert not [path for path in (tmp_path / "small").rglob("*") if path.is_file() and path.stat().st_size > 9_000]


def test_a_stream_that_breaks_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write_shards(tmp_path / "repo", "train")
    last = tmp_path / "repo" / "train-00001-of-00002.parquet"
    content = bytearray(last.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    last.write_bytes(content)
    with closing(served(tmp_path)) as server:
        own = {"HF_ENDPOINT": next(server), "HFGEN_CACHE": str(tmp_path / "streamed")}
        (line,) = opened(tmp_path / "home", "full", "train", code=STREAM, **own)
    assert re.match(r"UserError data: org/name can't be loaded \(.*\); check that it is whole, the connection", line)
    assert not list((tmp_path / "streamed").rglob("images.npy"))
