"""Publishing over HTTP to the loopback Hub: one commit or none, under every fault, and errors that say what to do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hub import Hub
from hub.accounts import READER, Command

QUICK = """
import logging, sys
from pathlib import Path
from hfgen.errors import UserError
from hfgen.publishing import publish
logging.basicConfig(level=logging.INFO)
try:
    done = publish(Path(sys.argv[1]), sys.argv[2], wait=0.01)
    print(done.commit, *done.changed)
except UserError as error:
    sys.exit(f"UserError {error}")
assert "torch" not in sys.modules
"""
STREAM = """
import sys
from datasets import load_dataset
whole = load_dataset("org/set", split="test")
streamed = load_dataset("org/set", split="test", streaming=True)
print(whole.column_names, len(whole), [row["seed"] for row in streamed] == whole["seed"], whole[3]["original"].size)
"""
FILES = {".gitattributes", "README.md", "data/test-00000-of-00001.parquet", "record.json"}


def published(hub: Hub, id: str = "org/set", kind: str = "dataset") -> int:
    """How many commits came after the first one; the files are whole."""
    repo = hub.repo(id, kind)
    assert set(repo.files()) >= FILES
    return len(repo.messages) - 1


def test_an_evaluation_is_one_commit_that_datasets_reads(hub: Hub, client: Command, evaluation: Path):
    done = client("publish", evaluation, "--to", "org/set", "--private")
    assert done.returncode == 0, done.stderr
    head = hub.repo("org/set", "dataset").resolve("main")
    assert done.stdout.strip() == f"{hub.endpoint}/datasets/org/set {head}"
    assert published(hub) == 1 and hub.repo("org/set", "dataset").private
    record = json.loads(hub.read("org/set", "record.json", "dataset"))
    assert record["model"]["id"] == "vae" and record["data"]["id"] == "glyphs"
    card = hub.read("org/set", "README.md", "dataset").decode()
    assert "| `sample` | Image |" in card and "| `coverage` | 0.5 [0.4, 0.6] | 0.95 [0.9, 0.99] |" in card
    assert "nowhere" not in card
    read = client(code=STREAM)
    assert read.stdout.strip() == "['original', 'sample', 'seed'] 12 True (8, 8)", read.stderr


def test_repeating_makes_no_commit_and_a_change_sends_only_itself(hub: Hub, client: Command, evaluation: Path):
    assert client("publish", evaluation, "--to", "org/set").returncode == 0
    sent = len(hub.uploaded)
    again = client("publish", evaluation, "--to", "org/set", "--collection", "My things")
    assert "(nothing had changed)" in again.stdout
    assert published(hub) == 1 and len(hub.uploaded) == sent == 1
    ((slug, collection),) = hub.storage.collections.items()
    assert [item["id"] for item in collection["items"]] == ["org/set"]

    record = json.loads((evaluation / "record.json").read_text())
    record["metrics"]["psnr"]["value"] = 0.55
    (evaluation / "record.json").write_text(json.dumps(record))
    assert client("publish", evaluation, "--to", "org/set", "--collection", slug).returncode == 0
    assert published(hub) == 2 and len(hub.uploaded) == sent and len(collection["items"]) == 1

    repo = hub.repo("org/set", "dataset")
    (evaluation / "dataset" / "test-00000-of-00001.parquet").rename(
        evaluation / "dataset" / "test-00000-of-00002.parquet"
    )
    shutil.copy(
        evaluation / "dataset" / "test-00000-of-00002.parquet", evaluation / "dataset" / "test-00001-of-00002.parquet"
    )
    assert client("publish", evaluation, "--to", "org/set").returncode == 0
    shards = [path for path in repo.files() if path.endswith(".parquet")]
    assert shards == ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]
    assert len(hub.uploaded) == sent


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ("GET /api/datasets/org/set$", 503),
        ("POST /api/repos/create", 500),
        ("POST /api/validate-yaml", "reset"),
        ("POST .*/preupload/", 502),
        ("PUT /upload", 500),
        ("PUT /upload", "reset"),
        ("POST .*/commit/", 500),
        ("POST .*/commit/", "reset"),
        ("POST .*/commit/", "lost"),
        ("POST .*/commit/", 412),
        ("POST .*/commit/", 409),
        ("POST .*/commit/", "slow"),
        ("GET .*/tree/", "truncated"),
        ("POST /api/repos/create", "lost"),
    ],
)
def test_a_fault_leaves_the_new_state_once(request_: str, kind: int | str, hub: Hub, client: Command, evaluation: Path):
    hub.fail(request_, kind)
    done = client(evaluation, "org/set", code=QUICK)
    assert done.returncode == 0, done.stderr
    assert not any(fault.times for fault in hub.faults), "the fault was met"
    assert published(hub) == 1
    assert len(hub.uploaded) == (2 if request_ == "PUT /upload" and kind == "lost" else 1), "sent once"


def test_a_hub_that_fails_for_good_keeps_the_old_state(hub: Hub, client: Command, evaluation: Path):
    hub.fail("POST .*/commit/", 500, times=99, message="Internal Error")
    done = client(evaluation, "org/set", code=QUICK)
    assert "UserError to: the Hub failed 5 times (500: Internal Error" in done.stderr, done.stderr
    assert "what was there is unchanged" in done.stderr
    assert list(hub.repo("org/set", "dataset").files()) == [".gitattributes"]
    hub.faults.clear()
    assert client(evaluation, "org/set", code=QUICK).returncode == 0
    assert published(hub) == 1 and len(hub.uploaded) == 1, "the large file wasn't sent again"


def test_somebody_elses_commit_in_between_is_built_upon(hub: Hub, client: Command, evaluation: Path, tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: cc-by-4.0\ntags: [mine]\n---\nMy words.\n")
    (tmp_path / "theirs" / "notes.txt").write_text("keep me")
    hub.before_commit = lambda: hub.storage.add_folder(hub.repo("org/set", "dataset"), tmp_path / "theirs")
    done = client(evaluation, "org/set", code=QUICK)
    assert done.returncode == 0 and "412" in done.stderr, done.stderr
    assert published(hub) == 2
    assert hub.read("org/set", "notes.txt", "dataset") == b"keep me"
    card = hub.read("org/set", "README.md", "dataset").decode()
    assert "license: cc-by-4.0" in card and "- mine\n- hfgen" in card and "My words.\n\n<!-- hfgen: begin" in card
    assert client(evaluation, "org/set", code=QUICK).stdout.split() == [hub.repo("org/set", "dataset").resolve("main")]


def test_a_branch_and_a_pull_request_leave_main_alone(hub: Hub, client: Command, evaluation: Path):
    assert client("publish", evaluation, "--to", "org/set", "--revision", "trial").returncode == 0
    repo = hub.repo("org/set", "dataset")
    assert list(repo.files("main")) == [".gitattributes"] and set(repo.files("trial")) == FILES
    for _ in range(2):
        done = client("publish", evaluation, "--to", "org/set", "--create_pr")
        assert done.returncode == 0, done.stderr
    assert [ref for ref in repo.refs if ref.startswith("refs/pr/")] == ["refs/pr/1"]
    assert list(repo.files("main")) == [".gitattributes"] and set(repo.files("refs/pr/1")) == FILES


def test_who_may_only_read_may_propose(hub: Hub, client: Command, evaluation: Path):
    repo = hub.storage.create("dataset", "org/set")
    assert client("publish", evaluation, "--to", "org/set", "--create_pr", token=READER).returncode == 0
    assert set(repo.files("refs/pr/1")) == FILES and list(repo.files()) == [".gitattributes"]


def test_other_bytes_than_were_sent_are_noticed(hub: Hub, client: Command, evaluation: Path, monkeypatch):
    commit = hub.storage.commit

    def spoilt(*arguments):
        oid = commit(*arguments)
        arguments[0].commits[oid]["record.json"] = hub.storage.keep(b"{}")
        return oid

    monkeypatch.setattr(hub.storage, "commit", spoilt)
    done = client("publish", evaluation, "--to", "org/set")
    assert done.returncode == 2 and "record.json: the Hub holds other bytes than were sent" in done.stderr


def test_a_large_file_goes_in_parts(hub: Hub, client: Command, evaluation: Path):
    hub.part_size = 1000
    assert client(evaluation, "org/set", code=QUICK).returncode == 0
    assert len(hub.uploaded) > 1 and published(hub) == 1


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no token", r"token: there is none; run `hf auth login`"),
        ("wrong token", r"token: the Hub doesn't accept it; run `hf auth login`"),
        ("reader", r"to: your token may not write to org/set .*--create_pr"),
        ("other namespace", r"to: your token may not write to other/set"),
        ("taken", r"to: org/set is a model on the Hub already; choose another name"),
        ("public", r"to: org/set is public; make it private in its settings"),
        ("gated", r"to: org/set is gated and not granted to you; ask for access at http"),
        ("offline", r"to: HF_HUB_OFFLINE is set.*--dry_run"),
        ("quota", r"to: the Hub has no room for org/set .*Storage limit reached"),
        ("unreachable", r"to: the Hub can't be reached"),
        ("no name", r"to: '/?set/?' isn't a repository's name.*; give ORG/NAME"),
    ],
)
def test_what_goes_wrong_says_what_to_do(case: str, message: str, hub: Hub, client: Command, evaluation: Path):
    token: str | None = {"no token": None, "wrong token": "hf_" + "x" * 34, "reader": READER}.get(case, "")
    options: dict[str, str] = {"token": token} if token != "" else {}  # type: ignore[dict-item]
    to = {"other namespace": "other/set", "no name": "set"}.get(case, "org/set")
    if case == "taken":
        hub.storage.create("model", "org/set")
    if case == "public":
        hub.storage.create("dataset", "org/set")
    if case == "gated":
        repo = hub.storage.create("dataset", "org/set", gated=True)
        hub.storage.add_folder(repo, evaluation)
        repo.commits[repo.resolve("main")]["README.md"] = hub.storage.keep(b"hello")
        options["token"] = READER
    if case == "offline":
        options["HF_HUB_OFFLINE"] = "1"
    if case == "unreachable":
        options["HF_ENDPOINT"] = "http://127.0.0.1:9"
    if case == "quota":
        hub.storage.quota = 100
    arguments = ["--private"] if case == "public" else []
    if case == "unreachable":
        done = client(evaluation, to, code=QUICK, **options)
        line = done.stderr.splitlines()[-1].removeprefix("UserError ")
    else:
        done = client("publish", evaluation, "--to", to, *arguments, **options)
        (line,) = [line.removeprefix("hfgen: error: ") for line in done.stderr.splitlines()]
    assert done.returncode and re.search("^" + message, line), done.stderr
    assert "x" * 34 not in done.stderr
    assert all(len(repo.messages) <= 2 for repo in hub.storage.repos.values()), "nothing was written"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.pkl", b"\x80\x04.", r"data.pkl: a space holds .* files only"),
        ("notes.md", b"my hf_" + b"a" * 34, r"notes.md: it holds an access token"),
        ("config.json", b'{"x": "/home/ann/data"}', r"config.json: it names /home/ann, a folder of this machine"),
        ("README.md", b"no metadata", r"README.md: its metadata lacks sdk"),
        ("README.md", b"---\nsdk: [\n---\n", r"README.md: its metadata isn't YAML"),
    ],
)
def test_what_must_not_be_published_is_named(name: str, content: bytes, message: str, client: Command, tmp_path: Path):
    space = tmp_path / "space"
    space.mkdir()
    (space / "app.py").write_text("import gradio\n")
    (space / "README.md").write_text("---\ntitle: t\nsdk: gradio\n---\n")
    (space / name).write_bytes(content)
    done = client("publish", space, "--to", "org/space", "--dry_run", token=None, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr


def test_a_space_folder_is_published(hub: Hub, client: Command, tmp_path: Path):
    (tmp_path / "space" / "__pycache__").mkdir(parents=True)
    (tmp_path / "space" / "__pycache__" / "app.pyc").write_bytes(b"x")
    (tmp_path / "space" / "app.py").write_text("import gradio\n")
    (tmp_path / "space" / "README.md").write_text("---\ntitle: t\nsdk: gradio\n---\nWords.\n")
    done = client("publish", tmp_path / "space", "--to", "org/space")
    assert done.returncode == 0, done.stderr
    assert set(hub.repo("org/space", "space").files()) == {".gitattributes", "README.md", "app.py"}
    assert hub.read("org/space", "README.md", "space") == b"---\ntitle: t\nsdk: gradio\n---\nWords.\n"


def test_an_empty_folder_is_refused(client: Command, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "holds nothing to publish" in client("publish", tmp_path / "empty", "--to", "org/x").stderr
    assert "isn't a folder" in client("publish", tmp_path / "none", "--to", "org/x").stderr
