"""A run as a Hub Job: the exact request, what it needs on the Hub, and a wheel that installs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml
from hub import Hub
from hub.accounts import TOKEN, Command

JOB = ["train", "vae-glyphs", "--max_images=1000", "--job=a10g-small", "--hub_model_id=org/run", "--push_every=500"]


def test_a_dry_run_prints_the_request_and_a_run_sends_it(hub: Hub, client: Command):
    planned = client(*JOB, "--dry_run", token=None)
    request = json.loads(planned.stdout)
    assert not hub.requests and request["secrets"] == ["HF_TOKEN"]

    for _ in range(2):
        started = client(*JOB)
        assert started.returncode == 0 and f"{hub.endpoint}/jobs/me/" in started.stdout, started.stderr
    sent = hub.storage.jobs[0]
    assert sent["command"] == request["command"] and sent["volumes"] == request["volumes"]
    assert sent["dockerImage"] == request["image"] and sent["flavor"] == "a10g-small"
    assert sent["timeoutSeconds"] == 6 * 3600 and sent["secrets"] == {"HF_TOKEN": TOKEN}
    (volume,) = sent["volumes"]
    there = hub.repo(volume["source"]).files(volume["revision"])
    mounted = {f"{volume['mountPath']}/{path.removeprefix('job/')}" for path in there if path.startswith("job/")}
    assert mounted <= set(sent["command"]) and len(mounted) == 2
    settings = yaml.safe_load(hub.read("org/run", "job/run.yaml", revision="training"))
    assert settings["family"] == "vae" and settings["max_images"] == 1000
    assert len(hub.repo("org/run").messages) == 2, "the second job needed nothing new"


def test_what_a_job_cannot_do_is_said(client: Command, hub: Hub, glyph_folder: Path):
    assert "data: " in client(*JOB, f"--data={glyph_folder}").stderr
    assert "hub_model_id: a job pushes" in client("train", "vae-glyphs", "--job=a10g-small").stderr
    hub.fail("POST /api/jobs", "lost")
    done = client(*JOB)
    assert done.returncode == 2 and "the Hub can't be reached" in done.stderr
    assert len(hub.storage.jobs) == 1, "it isn't started twice"


def test_the_wheel_is_hfgen(tmp_path: Path):
    from hfgen.publishing.jobs import write_wheel

    (tmp_path / "again").mkdir()
    wheel = write_wheel(tmp_path)
    assert wheel.read_bytes() == write_wheel(tmp_path / "again").read_bytes()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path / "to",
    ]
    subprocess.run([*install, wheel], check=True)
    code = "import hfgen.publishing.cards as c; print(c.__file__, len(list(c._TEMPLATES.iterdir())))"
    run = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'to')!r}); {code}"]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path, env={}).stdout.split()
    assert printed == [str(tmp_path / "to/hfgen/publishing/cards.py"), "2"]
