"""Assemble a folder, check it, load it where hfgen can't be imported, then make one commit of what changed."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.errors import UserError
from hfgen.folders import trained_resolution
from hfgen.hub.addresses import check_repository
from hfgen.hub.repository import Repository
from hfgen.publishing import first_images
from hfgen.publishing.cards import check_card, split_card, write_card, write_results
from hfgen.publishing.contents import SAMPLES, Evidence, collect, without_local_names
from hfgen.publishing.isolation import run_without_hfgen
from hfgen.publishing.safety import check, check_text, machine_paths

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What a dry run would publish.

    Attributes:
        kind: model, dataset or space.
        sizes: Bytes of each file.
        card: The README.
    """

    kind: str
    sizes: dict[str, int]
    card: str


@dataclasses.dataclass(frozen=True)
class Published:
    """What is on the Hub now.

    Attributes:
        url: The repository's page.
        commit: The commit that holds the folder.
        changed: The paths that this call wrote or removed; none, if everything was there.
    """

    url: str
    commit: str
    changed: tuple[str, ...]


def dry_run(
    folder: Path,
    to: str,
    *,
    license: str | None = None,
    record: Path | None = None,
    diagnosis: Path | None = None,
    study: Path | None = None,
    posterior: Path | None = None,
) -> DryRun:
    """What `publish` would do, without the network: the Hub's own README, whose text is kept, isn't looked at."""
    with tempfile.TemporaryDirectory() as temporary:
        assembled = _Assembled(folder, to, Path(temporary), license, Evidence(record, diagnosis, study, posterior))
        files = assembled.complete(None)
        sizes = {name: path.stat().st_size for name, path in sorted(files.items())}
        return DryRun(assembled.contents.kind, sizes, files["README.md"].read_text(encoding="utf-8"))


def publish(
    folder: Path,
    to: str,
    *,
    private: bool = False,
    revision: str = "main",
    create_pr: bool = False,
    collection: str | None = None,
    license: str | None = None,
    record: Path | None = None,
    diagnosis: Path | None = None,
    study: Path | None = None,
    posterior: Path | None = None,
    message: str | None = None,
    wait: float = 1.0,
) -> Published:
    """Publish a checkpoint, an evaluation dataset or a Space, by what `folder` holds, as one commit.

    Repeating it makes no commit. Until the commit is made, nothing of it is visible.

    Args:
        folder: See `contents.collect`.
        to: `org/name`, which is made if it isn't there.
        private: Make it private; an existing repository must be so already.
        revision: The branch, made from main if it isn't there.
        create_pr: Open a pull request instead of writing to the branch.
        collection: Title or slug of a collection that it belongs to.
        license: Identifier such as `mit`; by default that of the README, or mit; or unknown, see `write_card`.
        record: A model's record.json, where it isn't beside it.
        diagnosis: Likewise its diagnosis.json.
        study: The study.json whose verdicts a model's card tells.
        posterior: The posterior.json that answers the model; its picture, too, is told by the card.
        message: Of the commit.
        wait: Seconds before the first retry.

    Raises:
        UserError: the folder can't be published, or the Hub refuses or fails; the message says what to do.
    """
    with tempfile.TemporaryDirectory() as temporary:
        assembled = _Assembled(folder, to, Path(temporary), license, Evidence(record, diagnosis, study, posterior))
        kind = assembled.contents.kind
        repository = Repository(to, kind, revision=revision, pull_request=create_pr, wait=wait)
        sdk = split_card(assembled.contents.readme or "")[0].get("sdk") if kind == "space" else None
        repository.retried(lambda: repository.ensure(private, sdk))
        summary = message or f"Publish the {kind} with hfgen"
        published = repository.retried(lambda: _commit(repository, assembled, summary))
        if collection is not None:
            repository.retried(lambda: repository.collect_in(collection))
    return published


class _Assembled:
    """The folder as it will be, except for the README, which also depends on the one that is there."""

    def __init__(self, folder: Path, to: str, workspace: Path, license: str | None, evidence: Evidence) -> None:
        from huggingface_hub import get_token

        check_repository(to, "to")
        self.to, self.license, self.token = to, license, get_token()
        self.workspace, self.machine = workspace / "files", machine_paths(folder)
        self.contents = collect(folder, to, self.workspace, evidence)
        self.found: dict[str, Any] = {}
        # Once, whatever the attempts: hashing is a read of all bytes, and sending them is the other.
        self.additions: dict[Path, CommitOperationAdd] = {}
        without_local_names(self.contents, self.workspace)
        check(self.contents, folder, self.token)
        if self.contents.kind == "model":
            self._load(workspace / "elsewhere")
            results = write_results(self.contents)
            if results is not None:
                self.contents.files[".eval_results/hfgen.yaml"] = self._text(".eval_results/hfgen.yaml", results)

    def complete(self, before: str | None) -> dict[str, Path]:
        """All files, with a README that keeps the text of `before`, the one on the Hub.

        Raises:
            UserError: the README isn't valid, or holds a token or a path of this machine.
        """
        readme = self.contents.readme if self.contents.readme is not None else before
        if self.contents.kind == "space":
            card = readme or ""
        else:
            card = write_card(self.contents, self.to, self.found, self.license, readme)
        check_card(card, self.contents.kind)
        check_text("README.md", card, self.machine, self.token)
        return {**self.contents.files, "README.md": self._text("README.md", card)}

    def addition(self, name: str, path: Path) -> CommitOperationAdd:
        """The operation that adds a file; it hashes it at most once."""
        from huggingface_hub import CommitOperationAdd

        if name == "README.md":
            return CommitOperationAdd(name, path)
        if path not in self.additions:
            self.additions[path] = CommitOperationAdd(name, path)
        return self.additions[path]

    def _text(self, name: str, text: str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def _load(self, elsewhere: Path) -> None:
        """Open the files as published, without hfgen, and draw an image; a grid, where the folder has none.

        Raises:
            UserError: that fails, or the record or the diagnosis is another model's.
        """
        folder, home = elsewhere / "published", elsewhere / "home"
        home.mkdir(parents=True)
        for name, path in self.contents.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path.resolve())
        grid = "" if SAMPLES in self.contents.files else home / SAMPLES
        program = Path(first_images.__file__).read_text(encoding="utf-8")
        try:
            self.found = json.loads(run_without_hfgen(program, folder, grid, home=home).splitlines()[-1])
        except (RuntimeError, IndexError, ValueError) as error:
            lines = str(error).strip().splitlines() or ["it printed nothing"]
            raise UserError(
                f"folder: {self.contents.root} can't be loaded by diffusers alone ({lines[-1][:300]}); save it again"
            ) from None
        if self.found.get("bare") and (side := trained_resolution(self.contents.run)) is not None:
            self.found["resolution"] = side
        if grid and Path(grid).is_file():
            self.contents.files[SAMPLES] = Path(grid)
        self._check_measured()

    def _check_measured(self) -> None:
        for what, done in (("record", "evaluate"), ("diagnosis", "diagnose")):
            measured = getattr(self.contents, what).get("model", {})
            for field in ("family", "parameters"):
                said, is_ = measured.get(field), self.found.get(field)
                if said is not None and is_ is not None and said != is_:
                    raise UserError(f"{what}: it is of a model whose {field} is {said}, not {is_}; {done} this one")


def _commit(repository: Repository, assembled: _Assembled, message: str) -> Published:
    """One attempt: compare with the head, commit on top of it, read back. Done already, it does nothing."""
    head = repository.head()
    there = repository.tree(head)
    before = repository.read("README.md", head) if "README.md" in there else None
    files = assembled.complete(before)
    changed, removed = _differences(assembled, files, there)
    if not changed and not removed:
        return Published(repository.url, head, ())
    if repository.pull_request:
        for pull in repository.pulls():
            if not any(_differences(assembled, files, repository.tree(pull))):
                return Published(repository.url, pull, ())
    additions = [assembled.addition(name, files[name]) for name in changed]
    commit = repository.commit(additions, removed, message, head)
    there = repository.tree(commit)
    wrong = next((name for name in changed if not _same(assembled.addition(name, files[name]), there.get(name))), None)
    if wrong is not None:
        raise UserError(f"{wrong}: the Hub holds other bytes than were sent ({repository.url}, {commit}); repeat")
    return Published(repository.url, commit, (*changed, *removed))


def _differences(assembled: _Assembled, files: dict[str, Path], there: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The paths to write, and those to remove."""
    changed = [name for name in sorted(files) if not _same(assembled.addition(name, files[name]), there.get(name))]
    if changed == [SAMPLES] and SAMPLES in there:
        # Another number of threads rounds otherwise: the same weights' samples are no news.
        changed = []
    return changed, sorted(name for name in there if assembled.contents.is_stale(name))


def _same(addition: CommitOperationAdd, entry: Any) -> bool:
    """Whether the Hub's file has these bytes, by its size and its checksum."""
    from huggingface_hub.utils.sha import git_hash

    if entry is None or entry.size != addition.upload_info.size:
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        return git_hash(file.read()) == entry.blob_id
