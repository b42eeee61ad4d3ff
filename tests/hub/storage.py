"""What the loopback Hub keeps: repositories of commits, whose files lie on the disk under their checksums."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LARGE = (".safetensors", ".parquet", ".arrow", ".bin")
"""What goes by LFS; files above 10 MB do too."""


class Refused(Exception):
    """An answer that isn't 200."""

    def __init__(self, status: int, code: str = "", message: str = "", **body: Any) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status, self.code, self.message = status, code, message
        self.body = {"error": message or code, **body}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of one commit: its git blob's SHA-1, and for a large one the SHA-256 of its content."""

    oid: str
    size: int
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class User:
    """Who a token belongs to; `may` is read or write, and the namespaces are where writing is allowed."""

    name: str
    may: str = "write"
    namespaces: tuple[str, ...] = ()


@dataclasses.dataclass
class Repo:
    """Commits by their checksum, and what branches, tags and pull requests point at."""

    kind: str
    id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, Entry]] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)
    refs: dict[str, str] = dataclasses.field(default_factory=dict)

    def resolve(self, revision: str) -> str:
        """The commit behind a branch, a tag or a commit."""
        found = self.refs.get(revision, revision)
        if found not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def files(self, revision: str = "main") -> dict[str, Entry]:
        """The files at a revision, by path."""
        return self.commits[self.resolve(revision)]


class Storage:
    """All repositories, collections and users; one lock makes each change whole or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects").mkdir(parents=True)
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.users: dict[str, User] = {}
        self.quota: int | None = None

    # Repositories.

    def create(self, kind: str, id: str, private: bool = False, gated: bool = False) -> Repo:
        """A repository of one commit, as the Hub makes it."""
        repo = Repo(kind, id, private, gated)
        self.repos[kind, id] = repo
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE)
        self._append(repo, "main", {".gitattributes": self.keep(attributes.encode())}, "initial commit")
        return repo

    def commit(self, repo: Repo, branch: str, lines: Iterable[dict[str, Any]], pull_request: bool = False) -> str:
        """Apply the lines of a commit request, all or none.

        Raises:
            Refused: the parent isn't the head any more, or an LFS object isn't here.
        """
        with self.lock:
            files = dict(repo.files(branch))
            header: dict[str, Any] = {}
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "header":
                    header = value
                    parent = value.get("parentCommit")
                    if parent is not None and parent != repo.resolve(branch):
                        raise Refused(412, message="A commit has happened since. Please refresh and try again.")
                elif key == "file":
                    files[value["path"]] = self.keep(base64.b64decode(value["content"]))
                elif key == "lfsFile":
                    files[value["path"]] = self.large_entry(value["oid"])
                else:
                    gone = [path for path in files if path == value["path"] or path.startswith(value["path"] + "/")]
                    if not gone:
                        raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
                    for path in gone:
                        del files[path]
            if pull_request:
                number = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
                branch = f"refs/pr/{number}"
            return self._append(repo, branch, files, header["summary"])

    def add_folder(self, repo: Repo, folder: Path, branch: str = "main") -> str:
        """Commit a folder's files, beside what is there."""
        files = dict(repo.files(branch))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            if name.endswith(LARGE):
                oid = hashlib.sha256(content).hexdigest()
                self.object(oid).write_bytes(content)
                files[name] = self.large_entry(oid)
            else:
                files[name] = self.keep(content)
        return self._append(repo, branch, files, "folder")

    def _append(self, repo: Repo, branch: str, files: dict[str, Entry], message: str) -> str:
        listing = json.dumps([len(repo.messages), message, {path: entry.oid for path, entry in files.items()}])
        oid = hashlib.sha1(listing.encode()).hexdigest()
        repo.commits[oid] = files
        repo.messages.append(message)
        repo.refs[branch] = oid
        return oid

    # Files.

    def object(self, oid: str) -> Path:
        """Where the file of a checksum lies."""
        return self.folder / "objects" / oid

    def keep(self, content: bytes) -> Entry:
        """Store a small file."""
        oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        self.object(oid).write_bytes(content)
        return Entry(oid, len(content))

    def large_entry(self, sha256: str) -> Entry:
        """The entry of an LFS object that was uploaded."""
        path = self.object(sha256)
        if not path.exists():
            raise Refused(400, message=f"LFS pointer pointed to a file that does not exist: {sha256}")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {path.stat().st_size}\n"
        return Entry(self.keep(pointer.encode()).oid, path.stat().st_size, sha256)

    def path(self, entry: Entry) -> Path:
        """The file that holds an entry's content."""
        return self.object(entry.sha256 or entry.oid)

    # Rights.

    def readable(self, user: User | None, kind: str, id: str, *, content: bool = False) -> Repo:
        """The repository, if the user may see it, or with `content` its files.

        Raises:
            Refused: it is absent, private or gated.
        """
        repo = self.repos.get((kind, id))
        owner = user is not None and id.split("/")[0] in (user.name, *user.namespaces)
        if repo is None or (repo.private and not owner):
            raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if content and repo.gated and not owner:
            raise Refused(403, "GatedRepo", f"Access to {kind} {id} is restricted. Visit it to ask for access.")
        return repo

    def check_writer(self, user: User | None, namespace: str) -> None:
        """Refuse who may not write there."""
        if user is None:
            raise Refused(401, message="Invalid username or password.")
        if user.may != "write" or namespace not in (user.name, *user.namespaces):
            raise Refused(403, message=f"You don't have the rights to write under the namespace {namespace!r}")
