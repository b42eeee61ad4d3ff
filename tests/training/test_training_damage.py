"""Checkpoints that a disk, not a kill, has spoilt: found, named, passed over."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import tiny_config

from hfgen.errors import UserError
from hfgen.training.checkpoints import checkpoint_folders, load_checkpoint, newest_checkpoint
from hfgen.training.train import train


def truncate(content: bytes) -> bytes:
    return content[:-7]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of a whole checkpoint."""
    newest = checkpoint_folders(trained / "checkpoints")[-1]
    shutil.copytree(newest, tmp_path / newest.name)
    return tmp_path / newest.name


@pytest.mark.parametrize("damage", [truncate, flip, lambda _: b""], ids=["truncated", "flipped", "empty"])
def test_every_damaged_file_is_found_and_named(damage: Callable[[bytes], bytes], checkpoint: Path):
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert {path.relative_to(checkpoint).parts[0] for path in files} == {"pretrained", "training_state"}
    for path in files:
        content = path.read_bytes()
        if content:
            path.write_bytes(damage(content))
            # What is listed in a spoilt state.json can be missing.
            named = rf"{path} is damaged" if path.name != "state.json" else "is damaged|is missing"
            with pytest.raises(UserError, match=named):
                load_checkpoint(checkpoint)
            path.write_bytes(content)
    assert load_checkpoint(checkpoint)[0] == int(checkpoint.name)


@pytest.mark.parametrize("family", ["vae"], scope="session")
def test_no_flipped_bit_of_state_json_goes_unseen(checkpoint: Path):
    path = checkpoint / "training_state" / "state.json"
    content = path.read_bytes()
    seed = random.randrange(2**32)
    print(f"bits of seed {seed}")
    chance = random.Random(seed)
    for _ in range(200):
        spoilt, bit = bytearray(content), chance.randrange(8 * len(content))
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match=r"is damaged|is missing"):
            load_checkpoint(checkpoint)


@pytest.mark.parametrize("family", ["vae"], scope="session")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: [], "it lists no checksums"),
        (lambda record: {"images_seen": record["images_seen"]}, "it lists no checksums"),
        (lambda record: {**record, "sha256": None}, "it lists no checksums"),
        (lambda record: {"sha256": record["sha256"]}, "its images_seen, None, isn't its folder's name"),
        (lambda record: {**record, "images_seen": 97}, "its images_seen, 97, isn't its folder's name"),
        (lambda record: {**record, "images_seen": "96"}, "its images_seen, '96', isn't its folder's name"),
    ],
)
def test_a_state_json_of_another_form_is_damage(change: Callable, message: str, checkpoint: Path):
    path = checkpoint / "training_state" / "state.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=rf"state\.json is damaged: {message}"):
        load_checkpoint(checkpoint)


def records(parent: Path) -> dict[str, str]:
    return {
        folder.name: (folder / "training_state" / "state.json").read_text() for folder in checkpoint_folders(parent)
    }


def spoil(parent: Path) -> list[str]:
    """Damage every checkpoint, each in another file; return their names."""
    folders = checkpoint_folders(parent)
    files = ["training_state/state.json", "training_state/network.vae.safetensors", "training_state/log.safetensors"]
    for folder, file in zip(folders, files, strict=False):
        (folder / file).write_bytes(truncate((folder / file).read_bytes()))
    return [folder.name for folder in folders]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_without_a_whole_checkpoint_starts_again_and_says_so(
    keep: int, glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = tiny_config("vae", glyph_folder, f"--keep_checkpoints={keep}", "--checkpoint_every=32")
    out, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"
    train(config, out)
    before = records(checkpoints)
    log = (out / "log.jsonl").read_bytes()
    shutil.rmtree(out / "pretrained")
    spoilt = spoil(checkpoints)
    assert len(spoilt) == keep
    train(config, out)
    for name in spoilt:
        assert f"checkpoint {name} is not used: " in caplog.text
    assert "state.json" in caplog.text and "the run starts again from image 0" in caplog.text
    assert (out / "log.jsonl").read_bytes() == log
    assert records(checkpoints) == before


@pytest.mark.parametrize("family", ["vae"], scope="session")
def test_a_checkpoint_outlives_damaged_ones_ahead_of_it(trained: Path, tmp_path: Path):
    """A run that went back and is stopped again keeps what it saved, not what was damaged."""
    from hfgen.pipelines import load
    from hfgen.training.checkpoints import drop_old, save_checkpoint

    newest = checkpoint_folders(trained / "checkpoints")[-1]
    images, state = load_checkpoint(newest)
    shutil.copytree(newest, tmp_path / newest.name)
    (tmp_path / newest.name / "training_state" / "state.json").write_text("{")
    save_checkpoint(tmp_path / f"{images - 16:012d}", load(str(trained)), state, images - 16)
    drop_old(tmp_path, keep=1)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found[0] == images - 16
