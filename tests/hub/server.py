"""The loopback Hub's HTTP side: the requests that huggingface_hub, datasets and diffusers make."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hub.storage import Entry, Refused, Repo, Storage
from hub.uploads import Uploads

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclasses.dataclass
class Fault:
    """What goes wrong with the requests that match; `kind` is a status, reset, lost, slow or truncated."""

    request: str
    kind: int | str
    after: int = 0
    times: int = 1
    message: str = ""

    def strikes(self, request: str) -> bool:
        """Whether it hits this request."""
        if not self.times or not re.search(self.request, request):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Hub:
    """A server in threads of its own. Clients need `client_environment(hub, home)`, since they read it at import."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(folder)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.uploaded: list[int] = []
        self.part_size: int | None = None
        self.before_commit: Callable[[], None] | None = None

    def __enter__(self) -> Hub:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, request: str, kind: int | str, *, after: int = 0, times: int = 1, message: str = "") -> None:
        """Let the requests whose `METHOD /path` matches go wrong: after so many, so often."""
        self.faults.append(Fault(request, kind, after, times, message))

    def repo(self, id: str, kind: str = "model") -> Repo:
        """A repository that exists."""
        return self.storage.repos[kind, id]

    def read(self, id: str, path: str, kind: str = "model", revision: str = "main") -> bytes:
        """A file's content."""
        return self.storage.path(self.repo(id, kind).files(revision)[path]).read_bytes()


def client_environment(hub: Hub | None, home: Path, token: str | None = None, **own: str) -> dict[str, str]:
    """The environment of a client process with a cache of its own, and the real Hub out of reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    # A machine with other work isn't a Hub that doesn't answer.
    quiet |= {"HF_HUB_DOWNLOAD_TIMEOUT": "120", "HF_HUB_ETAG_TIMEOUT": "120"}
    hugging = {
        "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9",
        "HF_HOME": str(home),
        "HF_DATASETS_CACHE": str(home / "datasets"),
    }
    return {**kept, **quiet, **hugging, **({"HF_TOKEN": token} if token else {}), **own}


class _Handler(Uploads):
    # The account.

    def whoami(self) -> Any:
        if self.user is None:
            raise Refused(401, message="Invalid username or password.")
        orgs = [{"name": name, "type": "org", "roleInOrg": "write"} for name in self.user.namespaces]
        token = {"displayName": "test", "role": self.user.may}
        return {"type": "user", "name": self.user.name, "orgs": orgs, "auth": {"accessToken": token}}

    # Repositories.

    def find(self, kinds: str, id: str, *, content: bool = False) -> Repo:
        return self.storage.readable(self.user, KINDS[kinds], id, content=content)

    def create_repo(self) -> Any:
        asked = self.json()
        namespace = asked.get("organization") or (self.user.name if self.user else "")
        id, kind = f"{namespace}/{asked['name']}", asked.get("type", "model")
        self.storage.check_writer(self.user, namespace)
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{id}"
        with self.storage.lock:
            if (kind, id) in self.storage.repos:
                raise Refused(409, message="You already created this repo", url=url)
            private = asked.get("private") or asked.get("visibility") == "private"
            self.storage.create(kind, id, bool(private))
        return {"url": url, "name": id}

    def validate_yaml(self) -> Any:
        self.body()
        return {"errors": [], "warnings": []}

    def info(self, kinds: str, id: str, revision: str = "main") -> Any:
        repo = self.find(kinds, id)
        files = repo.files(revision)
        return {
            "id": id,
            "sha": repo.resolve(revision),
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "siblings": [{"rfilename": path} for path in files],
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }

    def entry(self, path: str, entry: Entry) -> dict[str, Any]:
        described: dict[str, Any] = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
        if entry.sha256 is not None:
            described["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}
        return described

    def tree(self, kinds: str, id: str, revision: str, folder: str = "") -> Any:
        files = self.find(kinds, id).files(revision)
        recursive = self.query.get("recursive", [""])[0].lower() in ("true", "1")
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        listed: dict[str, dict[str, Any]] = {}
        for path, entry in files.items():
            if not path.startswith(prefix):
                continue
            inner = path.removeprefix(prefix).split("/")
            if recursive or len(inner) == 1:
                listed[path] = self.entry(path, entry)
            if len(inner) > 1:
                name = prefix + inner[0]
                listed.setdefault(name, {"type": "directory", "path": name, "oid": "0" * 40, "size": 0})
        if not listed and prefix:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        return list(listed.values())

    def paths_info(self, kinds: str, id: str, revision: str) -> Any:
        files = self.find(kinds, id).files(revision)
        paths = parse_qs(self.body().decode()).get("paths", [])
        return [self.entry(path, files[path]) for path in paths if path in files]

    def refs(self, kinds: str, id: str) -> Any:
        repo = self.find(kinds, id)
        pulls = [
            {"name": ref, "ref": ref, "targetCommit": oid}
            for ref, oid in repo.refs.items()
            if ref.startswith("refs/pr/")
        ]
        branches = [
            {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid}
            for ref, oid in repo.refs.items()
            if not ref.startswith("refs/")
        ]
        return {"branches": branches, "tags": [], "converts": [], "pullRequests": pulls}

    def create_branch(self, kinds: str, id: str, branch: str) -> Any:
        repo = self.find(kinds, id)
        self.storage.check_writer(self.user, id.split("/")[0])
        start = self.json().get("startingPoint", "main")
        with self.storage.lock:
            if branch in repo.refs:
                raise Refused(409, message="Reference already exists")
            repo.refs[branch] = repo.resolve(start)
        return {}

    # Writing.

    def commit(self, kinds: str, id: str, revision: str) -> Any:
        repo = self.find(kinds, id)
        pull = "create_pr" in self.query
        if not pull:
            self.storage.check_writer(self.user, id.split("/")[0])
        lines = [json.loads(line) for line in self.body().splitlines() if line.strip()]
        if self.hub.before_commit is not None:
            hook, self.hub.before_commit = self.hub.before_commit, None
            hook()
        oid = self.storage.commit(repo, revision, lines, pull)
        url = f"{self.hub.endpoint}/{'' if kinds == 'models' else kinds + '/'}{id}"
        answer = {"commitOid": oid, "commitUrl": f"{url}/commit/{oid}", "success": True}
        if pull:
            number = sum(ref.startswith("refs/pr/") for ref in repo.refs)
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        return answer

    # Files.

    def resolve(self, id: str, revision: str, path: str, kinds: str = "models/") -> Any:
        repo = self.find(kinds.rstrip("/") or "models", id, content=True)
        commit = repo.resolve(revision)
        entry = repo.files(revision).get(path)
        if entry is None:
            self.drain()
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.oid}"', "Accept-Ranges": "bytes"}
        if entry.sha256 is not None:
            headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        first, last, status = 0, entry.size - 1, 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last, status = int(asked[1]), int(asked[2] or last), 206
            headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
        headers["Content-Length"] = str(last + 1 - first)
        with self.storage.path(entry).open("rb") as file:
            file.seek(first)
            self.answer(status, headers, file=file)
        return None

    # Jobs.

    def run_job(self, namespace: str) -> Any:
        self.storage.check_writer(self.user, namespace)
        spec = self.json()
        self.storage.jobs.append(spec)
        owner = {"id": "0", "name": namespace, "type": "user"}
        return {"id": str(len(self.storage.jobs)), "owner": owner, "status": {"stage": "RUNNING"}, **spec}

    # Collections.

    def create_collection(self) -> Any:
        asked = self.json()
        self.storage.check_writer(self.user, asked["namespace"])
        slug = f"{asked['namespace']}/{re.sub(r'[^a-z0-9]+', '-', asked['title'].lower())}-0123456789abcdef01234567"
        with self.storage.lock:
            if slug in self.storage.collections:
                raise Refused(409, message="this collection exists", slug=slug)
            self.storage.collections[slug] = {
                "slug": slug,
                "title": asked["title"],
                "owner": asked["namespace"],
                "items": [],
                "lastUpdated": "2026-01-01T00:00:00.000Z",
                "position": 0,
                "private": asked.get("private", False),
                "theme": "green",
                "upvotes": 0,
            }
        return self.collection(slug)

    def collection(self, slug: str) -> Any:
        if slug not in self.storage.collections:
            raise Refused(404, message="no such collection")
        return self.storage.collections[slug]

    def add_item(self, slug: str) -> Any:
        collection, item = self.collection(slug), self.json()["item"]
        self.storage.check_writer(self.user, collection["owner"])
        if any((known["id"], known["type"]) == (item["id"], item["type"]) for known in collection["items"]):
            raise Refused(409, message="it is in the collection")
        collection["items"].append({"_id": str(len(collection["items"])), "position": 0, **item})
        return collection


_REPO = r"(?P<id>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kinds>models|datasets|spaces)/{_REPO}"
_REVISION = r"(?P<revision>refs/(?:pr|convert)/\w+|[^/]+)"
_Handler.routes = [
    (("GET",), "/api/whoami-v2", _Handler.whoami),
    (("POST",), "/api/repos/create", _Handler.create_repo),
    (("POST",), "/api/validate-yaml", _Handler.validate_yaml),
    (("POST",), r"/api/jobs/(?P<namespace>[^/]+)", _Handler.run_job),
    (("POST",), "/api/collections", _Handler.create_collection),
    (("GET",), r"/api/collections/(?P<slug>[^/]+/[^/]+)", _Handler.collection),
    (("POST",), r"/api/collections/(?P<slug>[^/]+/[^/]+)/items?", _Handler.add_item),
    (("GET",), _API, _Handler.info),
    (("GET",), rf"{_API}/revision/{_REVISION}", _Handler.info),
    (
        ("GET",),
        rf"{_API}/tree/{_REVISION}(?P<folder>/.*)?",
        lambda self, folder=None, **rest: self.tree(folder=folder or "", **rest),
    ),
    (("POST",), rf"{_API}/paths-info/{_REVISION}", _Handler.paths_info),
    (("GET",), rf"{_API}/refs", _Handler.refs),
    (("POST",), rf"{_API}/branch/(?P<branch>.+)", _Handler.create_branch),
    (("POST",), rf"{_API}/preupload/{_REVISION}", _Handler.preupload),
    (("POST",), rf"{_API}/commit/{_REVISION}", _Handler.commit),
    (("POST",), r"/(?P<id>(?:datasets/|spaces/)?[\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), r"/upload/(?P<oid>\w+)(?:/(?P<part>\d+))?", lambda self, oid, part=None: self.upload(oid, part or "")),
    (("POST",), r"/upload/(?P<oid>\w+)/complete", _Handler.complete),
    (("POST",), "/verify", _Handler.verify),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
    (
        ("GET", "HEAD"),
        rf"/(?P<kinds>datasets/|spaces/){_REPO}/resolve/{_REVISION}/(?P<path>.+)",
        _Handler.resolve,
    ),
]
