"""A run as a Hub Job: the exact request, what it needs on the Hub, and a wheel that installs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub import Hub
from hub.accounts import TOKEN, Command

JOB = ["train", "vae-glyphs", "--max_images=1000", "--job=a10g-small", "--hub_model_id=org/run", "--push_every=500"]
SUBMIT = """
import json, sys
from hfgen.errors import UserError
from hfgen.publishing.jobs import job_request, submit
config = {"family": "vae", "data": "glyphs", "start_from": "", "max_images": 1000}
request = job_request(config, "org/run", "a10g-small", every=500)
print(json.dumps(request))
for _ in range(int(sys.argv[1])):
    try:
        print(submit(request, config, "org/run"))
    except UserError as error:
        print(error)
"""


def test_a_dry_run_prints_the_request_and_a_job_finds_what_it_needs_on_the_hub(hub: Hub, client: Command):
    planned = client(*JOB, "--dry_run", token=None)
    request = json.loads(planned.stdout)
    assert not hub.requests and request["secrets"] == ["HF_TOKEN"] and request["timeout"] == "6h"
    started = client(2, code=SUBMIT)
    assert started.returncode == 0, started.stderr
    submitted, *pages = started.stdout.splitlines()
    assert request == json.loads(submitted)
    assert pages == [f"{hub.endpoint}/jobs/me/{number}" for number in (1, 2)]
    sent = hub.storage.jobs[0]
    assert sent["command"] == request["command"] and sent["volumes"] == request["volumes"]
    assert sent["dockerImage"] == request["image"] and sent["flavor"] == "a10g-small"
    assert sent["timeoutSeconds"] == 6 * 3600 and sent["secrets"] == {"HF_TOKEN": TOKEN}
    (volume,) = sent["volumes"]
    there = hub.repo(volume["source"]).files(volume["revision"])
    mounted = {f"{volume['mountPath']}/{path.removeprefix('job/')}" for path in there if path.startswith("job/")}
    assert mounted <= set(sent["command"]) and len(mounted) == 2
    settings = yaml.safe_load(hub.read("org/run", "job/run.yaml", revision="training"))
    assert settings == {"family": "vae", "data": "glyphs", "start_from": "", "max_images": 1000}
    assert len(hub.repo("org/run").messages) == 2, "the second job needed nothing new"


def test_a_lost_answer_starts_no_second_job(client: Command, hub: Hub):
    hub.fail("POST /api/jobs", "lost")
    assert "to: the Hub can't be reached" in client(1, code=SUBMIT).stdout
    assert len(hub.storage.jobs) == 1


def test_what_a_job_cannot_read_is_said(glyph_folder: Path):
    from hfgen.errors import UserError
    from hfgen.publishing.jobs import job_request

    with pytest.raises(UserError, match=r"^data: .* is on this machine, where a job can't read; give a Hub id"):
        job_request({"family": "vae", "data": str(glyph_folder), "start_from": ""}, "org/run", "a10g-small")


def test_the_wheel_is_hfgen(tmp_path: Path):
    from hfgen.publishing.wheel import write_wheel

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
    templates = len(list((Path(__file__).parents[2] / "model_cards").iterdir()))
    assert printed == [str(tmp_path / "to/hfgen/publishing/cards.py"), str(templates)]
