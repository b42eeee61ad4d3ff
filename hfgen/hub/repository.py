"""Files -> one commit on the Hub: retried and re-based until it is there, then read back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hfgen.errors import HubError
from hfgen.hub import calls
from hfgen.hub.addresses import check_repository

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.hf_api import RepoFile

_OTHERS = {"model": ("dataset", "space"), "dataset": ("model", "space"), "space": ("model", "dataset")}

Result = TypeVar("Result")


class Repository:
    """One repository, through huggingface_hub.

    Args:
        id: `org/name`.
        kind: model, dataset or space.
        revision: The branch that commits go to, made from main where it doesn't exist.
        pull_request: Commit to a new pull request on that branch instead.
        wait: Seconds before the first retry; they double.
    """

    def __init__(
        self, id: str, kind: str, *, revision: str = "main", pull_request: bool = False, wait: float = 1.0
    ) -> None:
        from huggingface_hub import HfApi, constants, get_token

        check_repository(id, "to")
        if constants.HF_HUB_OFFLINE:
            raise HubError("to: HF_HUB_OFFLINE is set, so nothing can be published; unset it, or use --dry_run")
        if get_token() is None:
            raise HubError("token: there is none; run `hf auth login`, or set HF_TOKEN, then repeat")
        self.id, self.kind, self.revision, self.pull_request = id, kind, revision, pull_request
        self.wait = wait
        self.api: HfApi = HfApi(library_name="hfgen")

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.api.endpoint}/{'' if self.kind == 'model' else self.kind + 's/'}{self.id}"

    def retried(self, call: Callable[[], Result]) -> Result:
        """Call until the Hub answers; calling twice must do no harm.

        Raises:
            HubError: it refuses, or fails `calls.ATTEMPTS` times; the message says what to do and holds no token.
        """
        try:
            return calls.retried(call, self.wait)
        except calls.failures() as error:
            raise self._explained(error) from None

    def once(self, call: Callable[[], Result]) -> Result:
        """Call what mustn't be repeated.

        Raises:
            HubError: the Hub refuses or fails.
        """
        try:
            return call()
        except calls.failures() as error:
            raise self._explained(error, attempts=1) from None

    def ensure(self, private: bool, sdk: str | None = None) -> None:
        """Make the repository, if it isn't there; a Space needs its `sdk`.

        Raises:
            HubError: the name is taken, or what is there is public and should be private.
        """
        info = self._info(self.kind)
        if info is None:
            taken = next((kind for kind in _OTHERS[self.kind] if self._info(kind) is not None), None)
            if taken is not None:
                raise HubError(f"to: {self.id} is a {taken} on the Hub already; choose another name")
            self.api.create_repo(self.id, repo_type=self.kind, private=private, exist_ok=True, space_sdk=sdk)
        elif private and not info.private:
            raise HubError(f"to: {self.id} is public; make it private in its settings, or leave --private out")

    def _info(self, kind: str) -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self.api.repo_info(self.id, repo_type=kind)
        except RepositoryNotFoundError:
            return None

    def head(self) -> str:
        """The newest commit of the branch, which is made if need be."""
        from huggingface_hub.errors import RevisionNotFoundError

        try:
            return self.api.repo_info(self.id, repo_type=self.kind, revision=self.revision).sha  # type: ignore[return-value]
        except RevisionNotFoundError:
            self.api.create_branch(self.id, branch=self.revision, repo_type=self.kind, exist_ok=True)
            return self.api.repo_info(self.id, repo_type=self.kind, revision=self.revision).sha  # type: ignore[return-value]

    def tree(self, commit: str) -> dict[str, RepoFile]:
        """The files of a commit, by path."""
        from huggingface_hub.hf_api import RepoFile

        listed = self.api.list_repo_tree(self.id, repo_type=self.kind, revision=commit, recursive=True)
        return {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}

    def read(self, path: str, commit: str) -> str:
        """A small text of a commit."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.api.hf_hub_download(self.id, path, repo_type=self.kind, revision=commit, local_dir=folder)
            return Path(file).read_text(encoding="utf-8")

    def pulls(self) -> Iterator[str]:
        """The newest commits of pull requests, last first."""
        refs = self.api.list_repo_refs(self.id, repo_type=self.kind, include_pull_requests=True)
        for ref in sorted(refs.pull_requests or [], key=lambda ref: int(ref.name.split("/")[-1]), reverse=True)[:5]:
            yield ref.target_commit

    def commit(self, additions: list[CommitOperationAdd], removed: list[str], message: str, parent: str) -> str:
        """Commit on top of `parent`, which must be the head still."""
        from huggingface_hub import CommitOperationDelete

        deletions = [CommitOperationDelete(path) for path in removed]
        return self.api.create_commit(
            self.id,
            [*additions, *deletions],
            commit_message=message,
            repo_type=self.kind,
            revision=self.revision,
            parent_commit=parent,
            create_pr=self.pull_request,
        ).oid

    def collect_in(self, collection: str, note: str | None = None) -> str:
        """Put the repository into a collection of its owner, by title or slug; return the slug."""
        slug = collection
        if "/" not in collection:
            namespace = self.id.split("/")[0]
            slug = self.api.create_collection(collection, namespace=namespace, exists_ok=True).slug
        self.api.add_collection_item(slug, self.id, self.kind, note=note, exists_ok=True)  # type: ignore[arg-type]
        return slug

    def _explained(self, error: Exception, attempts: int = calls.ATTEMPTS) -> HubError:
        """What the Hub said, as something that a user can act on."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        status, reason = calls.status(error), calls.reason(error)
        if any(isinstance(cause, GatedRepoError) for cause in calls.causes(error)):
            return HubError(f"to: {self.id} is gated and not granted to you; ask for access at {self.url}")
        if status == 401:
            return HubError("token: the Hub doesn't accept it; run `hf auth login`, or set HF_TOKEN anew")
        if status in (402, 413, 507) or re.search(r"storage|quota|payment", reason, re.IGNORECASE):
            return HubError(f"to: the Hub has no room for {self.id} ({reason}); free some, or upgrade the plan")
        if status == 403:
            owner = self.id.split("/")[0]
            return HubError(
                f"to: your token may not write to {self.id} ({reason}); use one that may write to {owner}, "
                "or --create_pr where the repository is another's"
            )
        if any(isinstance(cause, RepositoryNotFoundError) for cause in calls.causes(error)):
            return HubError(f"to: {self.id} isn't there, or not for your token; check the name and `hf auth whoami`")
        if status is None and calls.is_transient(error):
            return HubError(f"to: the Hub can't be reached ({reason}); check the network, then repeat")
        if calls.is_transient(error):
            times = "" if attempts == 1 else f" {attempts} times"
            return HubError(f"to: the Hub failed{times} ({reason}); what was there is unchanged, repeat later")
        return HubError(f"to: {self.id} can't be written ({reason})")
