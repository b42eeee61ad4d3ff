"""Runs on streamed shards, of a folder and of a Hub: in one process and two, resumed in the middle of a shard."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub import Hub, client_environment
from stores import write_shards
from tiny import COMMON, TINY
from trainings import Training, assert_learnt_alike

from hfgen.configs import load_config
from hfgen.training.run_folder import sole_run
from hfgen.training.train import open_data

SIZES = [37, 29, 41, 33, 26]
# An epoch has 166 images: two of them, and a checkpoint in the middle of a shard.
RUN = ["vae-glyphs", *COMMON, *TINY["vae"], "--precision=fp32", "--stream=2", "--split=all", "--checkpoint_every=112"]
RUN += ["--max_images=352", "--sample_every=112"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, SIZES, size=16)
    return folder


def contents(out: Path) -> dict[str, bytes]:
    """What a run leaves, but for what tells the time, and where its data lay."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name not in ("speed.jsonl", "run.json", ".lock")
    }


def test_killed_and_repeated_and_shared_by_two(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HFGEN_CACHE", str(tmp_path / "cache"))
    one, killed, two = (tmp_path / name for name in ("one", "killed", "two"))
    Training([*RUN, f"--data={shards}", f"--out={one}"]).finish()
    training = Training([*RUN, f"--data={shards}", f"--out={killed}"], die_before=[("os.rename", r"/\.0+224\.tmp")])
    assert training.codes() == [-9], training.tail()
    left = [path for path in (tmp_path / "cache" / "streams").glob("*/*") if path.is_dir()]
    assert len({path.name.strip(".")[:6] for path in left}) == 3
    Training([*RUN, f"--data={shards}", f"--out={killed}"]).finish()
    assert contents(killed) == contents(one)
    Training([*RUN, f"--data={shards}", f"--out={two}"], processes=2).finish()
    assert_learnt_alike(two, one, "vae")
    assert not list((tmp_path / "cache" / "streams").iterdir())


def test_a_hub_that_fails_ends_the_run_in_one_line_and_it_goes_on(shards: Path, tmp_path: Path):
    with Hub(tmp_path / "hub") as hub:
        repo = hub.storage.create("dataset", "org/set")
        hub.storage.add_folder(repo, shards)
        environment = client_environment(hub, tmp_path / "home", ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")

        def train(out: Path) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "hfgen", "train", *RUN, "--data=org/set", f"--out={out}"]
            own = {**environment, "HFGEN_CACHE": f"{out}.cache"}
            return subprocess.run(command, env=own, capture_output=True, text=True)

        assert train(tmp_path / "whole").returncode == 0
        fetched = sum(re.search("GET .*resolve", request) is not None for request in hub.requests)
        hub.fail("GET .*resolve", 503, after=fetched - 3, times=10**6)
        failed = train(tmp_path / "cut")
        assert failed.returncode == 2, failed.stderr
        line = failed.stderr.strip().splitlines()[-1]
        assert re.match(r"hfgen: error: data: train-0000\d-of-00005.parquet of org/set.*503.*repeat the command", line)
        assert list((tmp_path / "cut" / "checkpoints").iterdir()) and not (tmp_path / "cut" / "pretrained").exists()
        hub.faults.clear()
        again = train(tmp_path / "cut")
        assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["config"]["stream"] == 2


def test_settings_that_no_stream_has_are_refused(glyph_folder: Path, tmp_path: Path):
    from commands import here, refused

    for data, words in {
        "glyphs": "stream: glyphs isn't parquet files",
        str(glyph_folder): "stream: .* isn't parquet files, .*; leave --stream out",
    }.items():
        arguments = ("train", *RUN, f"--data={data}", f"--out={tmp_path / 'out'}")
        assert re.match(words, refused(*arguments, run=here))
    assert "stream: -1 is negative" in refused("train", *RUN, "--stream=-1", run=here)
    assert not (tmp_path / "out").exists()


def test_a_second_process_leaves_the_stream_of_a_running_one(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from commands import here, refused

    monkeypatch.setenv("HFGEN_CACHE", str(tmp_path / "cache"))
    out, run = tmp_path / "out", [*RUN, f"--data={shards}"]
    config = load_config(run[0], run[1:])
    with contextlib.closing(open_data(config, out)) as stream, sole_run(out):
        stream.share(0, 16, config.seed)
        assert "another process trains in" in refused("train", *run, f"--out={out}", run=here)
        assert list((tmp_path / "cache" / "streams").glob("*/0*"))
