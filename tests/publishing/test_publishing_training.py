"""Checkpoints reach the Hub while a run trains, and the last one when it ends."""

from __future__ import annotations

from pathlib import Path

from commands import here, refused
from hub import Hub
from hub.accounts import Command
from tiny import COMMON, TINY


def test_a_run_pushes_its_checkpoints_to_a_branch_and_the_last_to_main(
    hub: Hub, client: Command, glyph_folder: Path, tmp_path: Path
):
    arguments = ["train", "vae-glyphs", *COMMON, *TINY["vae"], f"--data={glyph_folder}", f"--out={tmp_path / 'run'}"]
    done = client(*arguments, "--push_to_hub", "--hub_model_id=org/run", "--push_every=40")
    assert done.returncode == 0, done.stderr
    repo = hub.repo("org/run")
    # The second checkpoint is left out where the first is under way still.
    assert sorted(repo.messages)[0] == "After 48 images" and repo.messages[-1] == "Publish the model with hfgen"
    assert done.stdout.strip().splitlines()[-1] == f"{hub.endpoint}/org/run {repo.resolve('main')}"
    weights = "vae/diffusion_pytorch_model.safetensors"
    assert repo.files("main")[weights].sha256 != repo.files("training")[weights].sha256 or len(repo.messages) == 4
    assert hub.read("org/run", weights) == (tmp_path / "run" / "pretrained" / weights).read_bytes()


def test_a_push_that_fails_is_a_warning(hub: Hub, client: Command, tmp_path: Path):
    code = """
import logging, sys
from pathlib import Path
from hfgen.publishing.push import CheckpointPush
logging.basicConfig()
push = CheckpointPush("org/run", 10)
push(Path(sys.argv[1]), 5)
assert push.thread is None
push(Path(sys.argv[1]), 12)
push.finish()
"""
    done = client(tmp_path / "gone", code=code)
    assert done.returncode == 0, done.stderr
    assert "the checkpoint of image 12 wasn't pushed: folder: " in done.stderr


def test_a_run_that_could_not_push_does_not_begin(hub: Hub, client: Command, glyph_folder: Path, tmp_path: Path):
    arguments = ["train", "vae-glyphs", *COMMON, *TINY["vae"], f"--data={glyph_folder}", f"--out={tmp_path / 'run'}"]
    done = client(*arguments, "--push_to_hub", "--hub_model_id=other/run")
    assert done.returncode == 2 and "to: your token may not write to other/run" in done.stderr
    assert "hub_model_id: --push_to_hub needs it" in refused(*arguments, "--push_to_hub", run=here)
    assert not (tmp_path / "run").exists()
