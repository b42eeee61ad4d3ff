"""A repository's files: listed first, then fetched by name into the cache, and nothing else."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from hfgen.errors import HubError
from hfgen.hub import calls
from hfgen.hub.addresses import Address

logger = logging.getLogger("hfgen")

_ATTEMPTS = 4


class Files(Protocol):
    """Files of a place, here or on the Hub; paths are relative and have forward slashes."""

    def names(self, folder: str) -> frozenset[str]:
        """Names of the files directly in a folder."""

    def folders(self, folder: str) -> frozenset[str]:
        """Names of the folders directly in a folder."""

    def fetch(self, paths: Iterable[str]) -> Path:
        """Make sure that these files are on this machine, and return the place's folder."""


class LocalFiles:
    """Those of a folder here."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: str) -> frozenset[str]:
        """See `Files`."""
        return frozenset(path.name for path in self._listed(folder) if path.is_file())

    def folders(self, folder: str) -> frozenset[str]:
        """See `Files`."""
        return frozenset(path.name for path in self._listed(folder) if path.is_dir() and path.name[0] != ".")

    def fetch(self, paths: Iterable[str]) -> Path:
        """See `Files`."""
        return self.root

    def _listed(self, folder: str) -> list[Path]:
        place = self.root / folder
        return list(place.iterdir()) if place.is_dir() else []


class HubFiles:
    """Those of a repository at the commit that its revision stood for when this was made.

    Args:
        address: Of the repository; its folder is ignored.
        kind: model or dataset.
        field: For errors; the kind by default.
        options: What huggingface_hub's downloads take besides: `token`, `cache_dir`, `force_download`.

    Raises:
        HubError: it can't be listed.
    """

    def __init__(self, address: Address, kind: str = "model", *, field: str = "", **options: Any) -> None:
        from huggingface_hub import HfApi

        self.address, self.kind, self.field, self.options = address, kind, field or kind, options
        api = HfApi(library_name="hfgen", token=options.get("token"))
        # Not again where no answer comes: the cache may do.
        info = self._asked(
            lambda: api.repo_info(address.repository, revision=address.revision, repo_type=kind), unreachable=False
        )
        self.commit = str(info.sha)
        self.paths = tuple(file.rfilename for file in info.siblings or ())

    def names(self, folder: str) -> frozenset[str]:
        """See `Files`."""
        return frozenset(name for name in self._inside(folder) if "/" not in name)

    def folders(self, folder: str) -> frozenset[str]:
        """See `Files`."""
        return frozenset(name.split("/")[0] for name in self._inside(folder) if "/" in name)

    def fetch(self, paths: Iterable[str]) -> Path:
        """See `Files`.

        Raises:
            HubError: the Hub refuses or fails.
        """
        from huggingface_hub import snapshot_download

        wanted = list(paths)
        patterns = [glob.escape(path) for path in wanted]

        def at(revision: str | None) -> Path:
            where = {"revision": revision, "repo_type": self.kind, **self.options}
            return Path(snapshot_download(self.address.repository, allow_patterns=patterns, **where))

        # By its name, so that the cache knows it offline; by its commit, where it has moved on since it was listed.
        place = self._asked(lambda: at(self.address.revision))
        if place.name != self.commit:
            place = self._asked(lambda: at(self.commit))
        # Where the network fails meanwhile, it returns what was there before.
        missing = next((path for path in wanted if not (place / path).is_file()), None)
        if missing is not None:
            raise _Unreachable(self.address, self.field, f"{missing} is missing")
        return place

    def _inside(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return [path.removeprefix(prefix) for path in self.paths if path.startswith(prefix)]

    def _asked(self, call: Any, *, unreachable: bool = True) -> Any:
        try:
            return calls.retried(call, attempts=_ATTEMPTS, unreachable=unreachable)
        except calls.failures() as error:
            if calls.is_unreachable(error):
                raise _Unreachable(self.address, self.field, calls.reason(error)) from None
            raise _explained(error, self.address, self.kind, self.field) from None


class _Unreachable(HubError):
    """No answer from the Hub, and its reason."""

    def __init__(self, address: Address, field: str, reason: str) -> None:
        super().__init__(f"{field}: {address} can't be fetched: the Hub can't be reached ({reason}); repeat later")
        self.reason = reason


def open_files(address: Address, kind: str = "model", **options: Any) -> Files:
    """A repository's files; where the Hub can't be asked, those of its newest state in the cache.

    Args:
        address: Of the repository; its folder is ignored.
        kind: model or dataset.
        options: See `HubFiles`; with `local_files_only` the Hub isn't asked.

    Raises:
        HubError: there is no such repository, or the Hub can't be reached and the cache doesn't hold it.
    """
    from huggingface_hub import constants

    if options.pop("local_files_only", False) or constants.HF_HUB_OFFLINE:
        return _cached(address, kind, "HF_HUB_OFFLINE or local_files_only is set", **options)
    try:
        return HubFiles(address, kind, **options)
    except _Unreachable as error:
        files = _cached(address, kind, error.reason, **options)
        logger.warning("%s: the Hub can't be reached (%s); what the cache holds is used", address, error.reason)
        return files


def _cached(address: Address, kind: str, why: str, **options: Any) -> LocalFiles:
    from huggingface_hub import snapshot_download

    kept = {name: options[name] for name in ("cache_dir",) if options.get(name)}
    try:
        # Asked for no file, since it would refuse what isn't the whole repository.
        where = {"revision": address.revision, "repo_type": kind, "local_files_only": True, **kept}
        place = snapshot_download(address.repository, allow_patterns=[], **where)
    except calls.failures():
        raise HubError(
            f"{kind}: {address} isn't a folder here and can't be fetched from the Hub ({why}), and the cache doesn't "
            "hold it; check the name and the network"
        ) from None
    return LocalFiles(Path(place))


def _explained(error: Exception, address: Address, kind: str, field: str) -> HubError:
    """What the Hub said, as something that a user can act on."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    def caused(cls: type[Exception]) -> bool:
        return any(isinstance(cause, cls) for cause in calls.causes(error))

    failed = f"{field}: {address} isn't a folder here and can't be fetched from the Hub"
    if caused(GatedRepoError):
        page = f"https://huggingface.co/{'' if kind == 'model' else kind + 's/'}{address.repository}"
        return HubError(f"{failed}: it is gated; ask for access at {page}, then `hf auth login`")
    if caused(RepositoryNotFoundError):
        return HubError(f"{failed}: there is none, or not for your token; check the name and `hf auth whoami`")
    if caused(RevisionNotFoundError):
        return HubError(f"{failed}: it has no revision {address.revision}; give one of its branches, tags or commits")
    return HubError(f"{failed} ({calls.reason(error)}); check the name, the network and `hf auth whoami`")


def download(address: Address, patterns: Sequence[str], *, kind: str = "model") -> Path:
    """The files of a repository whose paths match one of `patterns` (as in a shell), in the cache.

    Raises:
        HubError: they can't be fetched.
    """
    from fnmatch import fnmatch

    files = open_files(address, kind)
    if isinstance(files, HubFiles):
        return files.fetch(path for path in files.paths if any(fnmatch(path, pattern) for pattern in patterns))
    return files.fetch(())


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the Hub's cache holds; None: it is another folder."""
    parts = folder.parts
    # Laid out as huggingface_hub does: models--org--name/snapshots/COMMIT/...
    places = [index for index, part in enumerate(parts[:-1]) if part == "snapshots" and index]
    return parts[places[-1] + 1] if places and "--" in parts[places[-1] - 1] else None
