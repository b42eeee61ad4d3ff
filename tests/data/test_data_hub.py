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
        etag = f'"{hashlib.sha1(file.read_bytes()).hexdigest()}"'
        return self.answer(200, file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": etag})

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
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, tmp_path / "repo")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def opened(home: Path, *data: str, **environment: str) -> list[str]:
    """A process of its own, since the Hub's address is read at import."""
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    own = {"HF_HOME": str(home), "HF_DATASETS_CACHE": str(home / "datasets")}
    ran = subprocess.run(
        [sys.executable, "-c", OPEN, *data],
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
