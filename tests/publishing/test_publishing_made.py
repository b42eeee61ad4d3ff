"""What is made for publishing: a Space of models at their commits, and the built-in sets as parquet."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hub import Hub, client_environment
from hub.accounts import Command
from ports import free_port
from tiny import tiny_config

from hfgen.data import draw
from hfgen.data.export import export

SPACE = Path(__file__).parents[2] / "spaces" / "compare"
READ = """
import sys
import numpy as np
from datasets import load_dataset
for split in ("train", "test"):
    rows = load_dataset("org/data", split=split)
    np.savez(sys.argv[1] + split, images=np.stack([np.asarray(image) for image in rows["image"]]),
             labels=rows["label"], tilt=rows["tilt"])
from hfgen.data import open_store
store = open_store("org/data", split="test", resolution=16, channels=1)
np.savez(sys.argv[1] + "store", images=store.images, labels=store.labels)
"""


def add_model(hub: Hub, id: str, folder: Path) -> str:
    (folder / "vae").mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text('{"_class_name": "VAEPipeline"}')
    (folder / "vae" / "model.safetensors").write_bytes(b"weights")
    return hub.storage.add_folder(hub.storage.create("model", id), folder)


def test_a_space_is_assembled_and_published(hub: Hub, client: Command, tmp_path: Path):
    shas = [add_model(hub, f"org/{name}", tmp_path / name) for name in ("a", "b")]
    command = ("publish", SPACE, "--models", "org/a", "org/b@main", "--data", "glyphs", "--to", "org/show")
    dry = client(*command, "--dry_run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.startswith("space org/show\n") and f"org/a model_index.json,vae/model.safetensors {shas[0]}" in (
        dry.stdout
    )
    assert ("space", "org/show") not in hub.storage.repos

    done = client(*command)
    assert done.returncode == 0, done.stderr
    files = hub.repo("org/show", "space").files()
    (wheel,) = (name for name in files if name.endswith(".whl"))
    assert set(files) == {".gitattributes", "README.md", "app.py", "models.json", "requirements.txt", wheel}
    settings = json.loads(hub.read("org/show", "models.json", "space"))
    assert settings == {"models": [f"org/{name}@{sha}" for name, sha in zip("ab", shas, strict=True)], "data": "glyphs"}
    assert (
        f"- org/b model_index.json,vae/model.safetensors {shas[1]}"
        in hub.read("org/show", "README.md", "space").decode()
    )

    assert "(nothing had changed)" in client(*command).stdout, "the wheel's bytes depend on its source alone"
    missing = client("publish", SPACE, "--models", "org/none", "--to", "org/show")
    assert (
        missing.returncode == 2
        and "models: org/none isn't a folder here and can't be fetched from the Hub" in missing.stderr
    )
    other = client("publish", tmp_path, "--models", "org/a", "--to", "org/show")
    assert other.returncode == 2 and "isn't a Space, for it has no app.py" in other.stderr


@pytest.mark.slow
def test_a_published_space_runs_by_itself(hub: Hub, client: Command, tmp_path: Path):
    """Its own wheel, its own models at their commits, no checkout: only what a Space's machine has."""
    gradio_client = pytest.importorskip("gradio_client")
    for family in ("vae", "gan"):
        model = tiny_config(family, tmp_path).model
        model.pipeline(model.build(16, 1)).save_pretrained(tmp_path / family)
        hub.storage.add_folder(hub.storage.create("model", f"org/{family}"), tmp_path / family)
    done = client("publish", SPACE, "--models", "org/vae", "org/gan", "--data", "glyphs", "--to", "org/show")
    assert done.returncode == 0, done.stderr
    space = tmp_path / "app"
    space.mkdir()
    for name in hub.repo("org/show", "space").files():
        (space / name).write_bytes(hub.read("org/show", name, "space"))
    port = free_port()
    environment = client_environment(hub, tmp_path / "visitor", GRADIO_SERVER_PORT=str(port), OMP_NUM_THREADS="1")
    environment.pop("PYTHONPATH", None)
    with (tmp_path / "log.txt").open("wb") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(300):
            assert app.poll() is None, (tmp_path / "log.txt").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5):
                break
            time.sleep(0.2)
        visitor = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False)
        _, values = visitor.predict(3, 2, 4, 1, -1, True, api_name="/generate")
        assert [one["model"] for one in values["models"]] == ["vae", "gan"]
    finally:
        app.terminate()
        app.wait(30)


SIZES = {"train": 300, "test": 40}


def test_glyphs_come_back_with_the_same_pixels(hub: Hub, client: Command, tmp_path: Path):
    export("glyphs", tmp_path / "drawn", 16, SIZES)
    done = client("publish", tmp_path / "drawn", "--to", "org/data")
    assert done.returncode == 0, done.stderr
    read = client(tmp_path / "read-", code=READ, HFGEN_CACHE=str(tmp_path / "cache"))
    assert read.returncode == 0, read.stderr
    for split, count in SIZES.items():
        drawn, found = draw("glyphs", split, 0, count, 16), np.load(tmp_path / f"read-{split}.npz")
        assert np.array_equal(found["images"], drawn.images[:, 0]) and np.array_equal(found["labels"], drawn.labels)
        assert np.array_equal(found["tilt"], drawn.factors[..., 4])
    store = np.load(tmp_path / "read-store.npz")
    assert np.array_equal(store["images"], drawn.images) and np.array_equal(store["labels"], drawn.labels)
    card = hub.read("org/data", "README.md", "dataset").decode()
    assert "340 images of 16 px" in card and "| `label` | ClassLabel |" in card and "license: mit" in card
    assert json.loads(hub.read("org/data", "data.json", "dataset"))["splits"] == SIZES


def test_stacked_keeps_its_channels_and_modes(tmp_path: Path):
    from datasets import Dataset

    export("stacked", tmp_path / "drawn", 16, {"test": 20})
    rows = Dataset.from_parquet(str(tmp_path / "drawn" / "dataset" / "test-00000-of-00001.parquet"))
    drawn = draw("stacked", "test", 0, 20, 16)
    images = np.stack([np.asarray(image) for image in rows["image"]])
    assert np.array_equal(images, drawn.images.permute(0, 2, 3, 1)) and rows["label"] == drawn.labels.tolist()
    assert rows.features["label"].int2str(7) == "007" and np.array_equal(rows["x"], drawn.factors[..., 2])


def test_the_command_draws_and_publishes(monkeypatch, capsys):
    from hfgen.cli import main
    from hfgen.data import glyphs

    monkeypatch.setitem(glyphs.SPLIT_SIZES, "train", 20)
    monkeypatch.setitem(glyphs.SPLIT_SIZES, "test", 10)
    assert main(["publish", "glyphs", "--to", "org/glyphs", "--resolution", "8", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("dataset org/glyphs\n") and "data/train-00000-of-00001.parquet" in said
    assert main(["publish", "glyphs", "--to", "org/glyphs", "--resolution", "4", "--dry_run"]) == 2
