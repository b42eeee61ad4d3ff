"""The loopback Hub's uploads: which files go ahead of a commit, and their content, whole or in parts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hub.connection import Handler
from hub.storage import LARGE, Refused


class Uploads(Handler):
    """What happens to files before a commit names them."""

    def preupload(self, kinds: str, id: str, revision: str) -> Any:
        repo = self.find(kinds, id)
        if "create_pr" not in self.query:
            self.storage.check_writer(self.user, id.split("/")[0])
        files = repo.files(revision)
        answer = []
        for asked in self.json()["files"]:
            large = asked["path"].endswith(LARGE) or asked["size"] > 10_000_000
            entry = files.get(asked["path"])
            oid = None if entry is None else entry.sha256 if large else entry.oid
            mode = "lfs" if large else "regular"
            answer.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answer}

    def lfs_batch(self, id: str) -> Any:
        batch, objects = self.json(), []
        # What goes to a pull request names no ref, and anybody may propose.
        if "ref" in batch:
            self.storage.check_writer(self.user, id.split("/")[-2])
        for asked in batch["objects"]:
            described: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if self.storage.quota is not None and asked["size"] > self.storage.quota:
                raise Refused(403, message="Storage limit reached: please upgrade your plan")
            if not self.storage.object(asked["oid"]).exists():
                described["actions"] = self.upload_actions(asked["oid"], asked["size"])
            objects.append(described)
        return {"transfer": "basic", "objects": objects}

    def upload_actions(self, oid: str, size: int) -> dict[str, Any]:
        url, part = f"{self.hub.endpoint}/upload/{oid}", self.hub.part_size
        if part is None or size <= part:
            return {"upload": {"href": url}, "verify": {"href": f"{self.hub.endpoint}/verify"}}
        parts = {f"{number + 1:05d}": f"{url}/{number}" for number in range(-(-size // part))}
        return {"upload": {"href": f"{url}/complete", "header": {"chunk_size": str(part), **parts}}}

    def upload(self, oid: str, part: str = "") -> Any:
        """Store a body under its checksum, or a part under its number."""
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.storage.folder, delete=False) as file:
            for block in self.blocks():
                digest.update(block)
                size += file.write(block)
        self.hub.uploaded.append(size)
        if part:
            Path(file.name).replace(self.storage.folder / f"{oid}.{part}")
        else:
            self.accept(Path(file.name), oid, digest.hexdigest())
        self.answer(200, {"ETag": f'"{digest.hexdigest()}"'})

    def complete(self, oid: str) -> Any:
        parts = [self.storage.folder / f"{oid}.{part['partNumber'] - 1}" for part in self.json()["parts"]]
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self.storage.folder, delete=False) as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
                digest.update(part.read_bytes())
                part.unlink()
        self.accept(Path(file.name), oid, digest.hexdigest())
        return {}

    def accept(self, file: Path, oid: str, found: str) -> None:
        if found != oid:
            file.unlink()
            raise Refused(422, message="the content doesn't have the checksum that was announced")
        file.replace(self.storage.object(oid))

    def verify(self) -> Any:
        asked = self.json()
        if not self.storage.object(asked["oid"]).exists():
            raise Refused(404, message="no such object")
        return {}
