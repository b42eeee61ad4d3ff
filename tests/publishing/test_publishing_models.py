"""Every family to the Hub and back: the card's own code runs, hfgen loads it without remote code, a record is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from exact import SENTENCE, write_posterior
from hub import Hub
from hub.accounts import RECORD, Command, diagnosed
from tiny import TINY

from hfgen.metrics import Estimate
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.studies.claims import Claim, Contrast, correct
from hfgen.studies.effects import Measured, value
from hfgen.studies.verdicts import GAIN

CARD = """
import gc, re, sys
gc.disable()
from pathlib import Path
import hfgen
from hfgen.cli import main
from huggingface_hub import hf_hub_download
from hfgen.publishing.first_images import draw
for run in sys.argv[2:]:
    id = f"org/{Path(run).name}"
    assert main(["publish", run, "--to", id]) == 0
    card = Path(hf_hub_download(id, "README.md")).read_text()
    blocks = re.findall(r"```python\\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == 3, card
    for block in blocks:
        names = {}
        exec(block, names)
        assert "pipe" not in names or len(names.get("images", [0])) in (1, 4), names
    here, there = hfgen.load(run), hfgen.load(id)
    for one, two in zip(draw(here, 2), draw(there, 2)):
        assert one.tobytes() == two.tobytes()
    saved = Path(sys.argv[1], Path(run).name)
    there.save_pretrained(saved)
    again = hfgen.load(saved)
    assert draw(again, 1)[0].tobytes() == draw(here, 1)[0].tobytes()
    if type(there).__name__ == "VAEPipeline":
        assert main(["publish", str(saved), "--to", id]) == 0
    print("done:", id)
gc.freeze()
"""


def test_every_family_goes_to_the_hub_and_back_and_its_cards_code_runs(
    trained_of: Callable[[str], Path], hub: Hub, client: Command, tmp_path: Path
):
    """All in one process, which takes seconds to begin."""
    runs = [trained_of(family) for family in sorted(TINY)]
    done = client(tmp_path / "saved", *runs, code=CARD)
    assert done.returncode == 0, done.stderr
    sent = set[str]()
    for run in runs:
        assert f"done: org/{run.name}" in done.stdout.splitlines()
        check_published(run, hub, tmp_path)
        files = hub.repo(f"org/{run.name}").files()
        sent |= {entry.sha256 for path, entry in files.items() if path.endswith(".safetensors")}
    # What was loaded and saved elsewhere has the same weights, none of which was sent again.
    assert len(hub.uploaded) == len(sent)


def check_published(run: Path, hub: Hub, tmp_path: Path) -> None:
    id = f"org/{run.name}"
    repo = hub.repo(id)
    first = list(repo.commits)[1]
    assert {"README.md", "run.json", "samples.png", "model_index.json"} <= set(repo.files(first))
    card = hub.read(id, "README.md", revision=first).decode()
    data = json.loads((run / "run.json").read_text())["config"]["data"]
    assert f"| data | `{Path(data).name}`, split train |" in card
    assert str(run) not in card and str(tmp_path) not in card
    weights = {path for path in repo.files() if path.endswith(".safetensors")}
    assert weights == {
        path.relative_to(run / "pretrained").as_posix()
        for path in run.rglob("pretrained/**/*.safetensors")
        if "checkpoints" not in path.relative_to(run).parts
    }
    assert not {
        path for path in repo.files() if Path(path).suffix not in (".safetensors", ".json", ".py", ".md", ".png", "")
    }
    # How they were trained went with the run.
    again = run.name == "vae"
    assert ("run.json" in repo.files()) is not again and len(repo.messages) == 2 + again


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE's run folder, untrained, with its record."""
    import torch

    from hfgen.families.vae import VAE

    family = VAE(latent_channels=4, width=16, max_width=16, prior="normal")
    torch.manual_seed(0)
    pipe = family.pipeline(family.build(8, 1))
    out = tmp_path_factory.mktemp("runs") / "vae"
    pipe.save_pretrained(out / "pretrained")
    record = {**RECORD, "model": {**RECORD["model"], "id": str(out), "parameters": pipe.parameter_count}}
    (out / "record.json").write_text(json.dumps(record))
    return out


def copied(vae: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(vae, tmp_path / "vae"))


def test_a_record_fills_the_card_and_its_index(vae: Path, hub: Hub, client: Command, tmp_path: Path):
    run = copied(vae, tmp_path)
    record = json.loads((run / "record.json").read_text())
    record["data"].update(id="org/images", revision="c" * 40)
    (run / "record.json").write_text(json.dumps(record))
    readme = "---\nlicense: apache-2.0\ntags: [faces]\nmodel-index:\n- name: mine\n  results:\n  - task: {type: t}\n"
    readme += "    dataset: {name: d, type: d}\n    metrics: [{type: m, value: 1}]\n---\n# My model\n\nMy words.\n"
    (run / "README.md").write_text(readme)
    (tmp_path / "why").mkdir()
    (tmp_path / "why" / "diagnosis.json").write_text(json.dumps(diagnosed(record["model"])))
    verdict = {"id": "loss/mean", "study": "loss", "claim": "L2 averages.", "number": "gain: 0.5 [0.4, 0.6]"}
    finding = {"value": 0.5, "low": 0.4, "high": 0.6, "seeds": 8}
    contrast = Contrast("gain", value("L2", "gain_high"), GAIN, "above")
    metrics = {"gain_high": Estimate(0.5, 0.4, 0.6, 100)}
    claim = Claim("mean", "L2 averages.", contrast).decide({"L2": [Measured(metrics, None)] * 8})
    correct([claim], 1)
    cells = {"L2": {"folders": ["cells/vae-0"], "metrics": {"psnr": finding}}}
    words = {"question": "Is it?", "variable": "the objective", "metric": "the power"}
    study = {
        "schema": 2,
        "data": "/nowhere/glyphs",
        "budget": {"name": "full", "images": 16000, "n": 1000, "seeds": 8, "seeds_of_curves": 2},
        "sentences": 1,
        "versions": {"torch": "2.13.0"},
        "studies": [{"name": "loss", **words, "cells": cells, "claims": [claim]}],
        "verdicts": [{**verdict, "verdict": claim["verdict"]}],
    }
    (tmp_path / "study.json").write_text(json.dumps(study))
    answers = write_posterior(
        tmp_path / "answers", {str(run): digest_of_folder(run / "pretrained"), "b": "0" * 64}, resolution=8
    )
    evidence = ("--diagnosis", tmp_path / "why", "--study", tmp_path / "study.json", "--posterior", answers)
    done = client("publish", run, "--to", "org/model", *evidence)
    assert done.returncode == 0, done.stderr
    card = hub.read("org/model", "README.md").decode()
    assert "- Diagnosed on 1,200 images: The samples are blurred: they have 30 %.\n  First causes: " in card
    assert "bottleneck (25% of high-frequency power), prior (90% of samples' KID); see `diagnosis.json`." in card
    assert json.loads(hub.read("org/model", "diagnosis.json"))["data"]["id"] == "glyphs"
    assert "| L2 averages. | supported | gain: 0.5 [0.4, 0.6] |" in card and "16,000 images of `glyphs`" in card
    assert json.loads(hub.read("org/model", "study.json"))["data"] == "glyphs"
    assert f"## What the latent says, exactly\n\n{SENTENCE}\n\n![From above: the real image; " in card
    assert "](posterior.png)" in card and "| PSNR of the exact mean, dB | 30.0 [29.0, 31.0] |" in card
    (sheet,) = (answers / "figures").glob("vae-*.png")
    assert hub.read("org/model", "posterior.png") == sheet.read_bytes()
    (entry,) = json.loads(hub.read("org/model", "posterior.json"))["models"]
    assert (entry["name"], entry["id"], len(entry["images"])) == ("model", "org/model", 1)
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "apache-2.0" and metadata["tags"] == ["faces", "hfgen", "vae"]
    assert metadata["library_name"] == "diffusers"
    mine, ours = metadata["model-index"]
    assert mine["name"] == "mine" and ours["name"] == "model"
    (result,) = ours["results"]
    assert result["dataset"] == {"name": "images", "type": "org/images", "split": "test", "revision": "c" * 40}
    assert {"type": "coverage", "name": "coverage", "value": 0.5, "args": {"low": 0.4, "high": 0.6, "n": 12}} in result[
        "metrics"
    ]
    assert card.split("---\n", 2)[2].startswith("\n# My model\n\nMy words.\n\n<!-- hfgen: begin")
    assert (
        "- 50 % [40, 60] of the held-out images have a sample near them; for other real images it is 95 % [90, 99]."
        in card
    )
    entries = yaml.safe_load(hub.read("org/model", ".eval_results/hfgen.yaml"))
    assert {"id": "org/images", "task_id": "psnr", "revision": "c" * 40} in [entry["dataset"] for entry in entries]
    assert json.loads(hub.read("org/model", "record.json"))["model"]["id"] == "org/model"

    (run / "README.md").unlink()
    shutil.copy(tmp_path / "why" / "diagnosis.json", run)
    again = client("publish", run, "--to", "org/model", *evidence[2:])
    assert "nothing had changed" in again.stdout
    (tmp_path / "study.json").write_text("[]")
    refused = client("publish", run, "--to", "org/model", *evidence[2:])
    assert refused.returncode == 2 and "study: [] is not of type 'object'" in refused.stderr
    assert "study again with this version of hfgen" in refused.stderr


def break_class(run: Path) -> None:
    path = run / "pretrained" / "hfgen_pipelines_v1.py"
    path.write_text(path.read_text().replace("class VAEPipeline", "import hfgen.families.vae\n\n\nclass VAEPipeline"))


def add_file(name: str, content: bytes = b"x"):
    def add(run: Path) -> None:
        (run / "pretrained" / name).write_bytes(content)

    return add


def truncate(run: Path) -> None:
    (path,) = (run / "pretrained").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-50])


def another_record(run: Path) -> None:
    (run / "record.json").write_text(json.dumps(RECORD))


def outdated_record(run: Path) -> None:
    (run / "record.json").write_text(json.dumps({**RECORD, "schema": 0}))


HARMS = {
    "break_class": (break_class, r"can't be loaded by diffusers alone \(.*hfgen can't be imported here"),
    "pickle": (add_file("vae/model.bin"), r"vae/model.bin: a model holds .*safetensors.* files only"),
    "code": (add_file("extra.py"), r"extra.py: model_index.json doesn't name this code"),
    "image": (add_file("photo.png"), r"photo.png: no other image than samples.png"),
    "token": (add_file("x.json", b'"hf_' + b"q" * 34 + b'"'), r"x.json: it holds an access token"),
    "truncate": (truncate, r"can't be loaded by diffusers alone"),
    "outdated_record": (outdated_record, r"schema: 2 was expected"),
    "another_record": (another_record, r"record: it is of a model whose parameters is 7, not \d+; evaluate this one"),
}
PUBLISH = """
import contextlib, io, json, sys
from hfgen.cli import main
for run in sys.argv[1:]:
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        code = main(["publish", run, "--to", "org/model"])
    print(json.dumps([code, error.getvalue()]))
"""


def test_a_damaged_checkpoint_never_reaches_the_hub(vae: Path, hub: Hub, client: Command, tmp_path: Path):
    runs = [copied(vae, tmp_path / name) for name in HARMS]
    for run, (harm, _) in zip(runs, HARMS.values(), strict=True):
        harm(run)
    done = client(*runs, code=PUBLISH)
    assert done.returncode == 0, done.stderr
    for (name, (_, message)), line in zip(HARMS.items(), done.stdout.splitlines(), strict=True):
        code, error = json.loads(line)
        assert code == 2 and re.search(message, error), f"{name}: {error}"
    assert not hub.requests


LARGE = """
import sys
from pathlib import Path
import hfgen.publishing.publisher as publishing
elsewhere = 0
def read():
    # With what the processes read that were waited for.
    return int(Path("/proc/self/io").read_text().split()[1]) - elsewhere
def counted(*arguments, **options):
    global elsewhere
    before = read()
    printed = without_hfgen(*arguments, **options)
    elsewhere += read() - before
    return printed
without_hfgen, publishing.run_without_hfgen = publishing.run_without_hfgen, counted
before = read()
done = publishing.publish(Path(sys.argv[1]), "org/large", wait=0.01)
# Not getrusage's peak, which counts what this process was before it ran Python.
status = Path("/proc/self/status").read_text().split()
peak = int(status[status.index("VmHWM:") + 1]) * 1024
print(peak, read() - before, len(done.changed))
"""


def write_large(path: Path, size: int) -> None:
    """A safetensors file of `size` random bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))


def test_a_large_checkpoint_needs_little_memory_and_two_reads(vae: Path, hub: Hub, client: Command, tmp_path: Path):
    run = copied(vae, tmp_path)
    write_large(run / "pretrained" / "ema.safetensors", 220_000_000)
    hub.fail("POST .*/commit/", 500)
    done = client(run, code=LARGE)
    assert done.returncode == 0, done.stderr
    memory, read, changed = map(int, done.stdout.split())
    assert memory < 300e6 and read < 2.1 * 220e6 and changed
    assert sum(hub.uploaded) < 2 * 220e6, "sent once"
