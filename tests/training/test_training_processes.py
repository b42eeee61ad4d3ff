"""The real commands: started from nothing, killed, stopped and interrupted, one process and two."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from trainings import FEW_STEPS, Training, assert_learnt_alike, tiny_arguments

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "train.py")
# For CPU processes `accelerate launch` itself knows only MPI; its launcher of GPU processes starts them as well.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0", SCRIPT]
LONGER = ("--max_images=320", "--checkpoint_every=32", "--log_every=48")


def start(arguments: list[str]) -> subprocess.Popen[str]:
    # Threads are fixed, since the order of sums depends on their number.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *arguments], env=environment, text=True, start_new_session=True, **pipes)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL the process's group and its children, which a launcher puts into groups of their own."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    psutil.wait_procs(children, timeout=60)
    process.communicate()


def digests(out: Path) -> dict[str, str]:
    last = max((out / "checkpoints").iterdir())
    return json.loads((last / "training_state" / "state.json").read_text())["sha256"]


def assert_same(out: Path, whole: Path) -> None:
    assert digests(out) == digests(whole)
    assert (out / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    assert (out / "pretrained" / "model_index.json").is_file()


def test_a_killed_command_repeated_equals_one_never_interrupted(glyph_folder: Path, tmp_path: Path):
    """That the script runs to its end from nothing: test_scripts_benchmark."""
    arguments = tiny_arguments("vqvae", glyph_folder, tmp_path / "killed", *LONGER)
    process = start([SCRIPT, *arguments])
    wait_for(tmp_path / "killed" / "checkpoints" / "000000000096", process)
    kill_all(process)
    Training(arguments).finish()
    Training(tiny_arguments("vqvae", glyph_folder, tmp_path / "whole", *LONGER)).finish()
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_a_launcher_stopped_and_repeated_equals_one_never_interrupted(glyph_folder: Path, tmp_path: Path):
    """Two processes that are killed: test_training_kills. A launcher that resumes a run: test_training_fsdp."""
    out = tmp_path / "stopped"
    arguments = tiny_arguments("vae", glyph_folder, out, *LONGER)
    process = start([*LAUNCH, *arguments])
    wait_for(out / "checkpoints" / "000000000032", process)
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does; the launcher hands it on and itself exits with 1
    _, errors = process.communicate(timeout=300)
    assert errors.count("repeat the command to go on") == 2, errors
    assert not (out / "pretrained").exists()
    Training(arguments, processes=2).finish()
    Training(tiny_arguments("vae", glyph_folder, tmp_path / "whole", *LONGER), processes=2).finish()
    assert_same(out, tmp_path / "whole")
    assert all(json.loads(line)["processes"] == 2 for line in (out / "speed.jsonl").open())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(number: signal.Signals, code: int, glyph_folder: Path, tmp_path: Path):
    more = ("--max_images=1000000", "--checkpoint_every=0", "--sample_every=0")
    training = Training(tiny_arguments("vae", glyph_folder, tmp_path / "run", *more))
    training.until((tmp_path / "run" / "log.jsonl").exists)
    training.send(number)
    assert training.codes() == [code], training.tail()
    assert "repeat the command to go on" in training.tail() and "Traceback" not in training.tail()
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert json.loads((checkpoint / "training_state" / "state.json").read_text())["images_seen"] == int(checkpoint.name)
    assert not (tmp_path / "run" / "pretrained").exists()


SHARES_OF_TWO = ("--batch_size=4", "--max_images=12", "--warmup_images=4", "--log_every=4", "--checkpoint_every=8")


@pytest.mark.parametrize("family", ["ali", "gan"], scope="session")
def test_two_processes_see_the_groups_that_one_sees(family: str, glyph_folder: Path, tmp_path: Path):
    """The discriminator's groups of four neighbours reach over shares of two."""
    for name, processes in (("one", 1), ("two", 2)):
        arguments = tiny_arguments(family, glyph_folder, tmp_path / name, "--precision=fp32", *SHARES_OF_TWO)
        Training(arguments, processes).finish()
    first, second = ([json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("one", "two"))
    # The first step's numbers depend on the weights' draw alone: r1 and r2 on second derivatives across processes.
    assert {"discriminator/r1", "discriminator/r2", "discriminator/margin"} < first[0].keys()
    assert second[0] == pytest.approx(first[0], rel=1e-4, abs=1e-6)
    for one, two in zip(first, second, strict=True):
        assert two == pytest.approx(one, rel=2e-2, abs=1e-3)
    assert_learnt_alike(tmp_path / "two", tmp_path / "one", family)


def test_a_batch_is_normalised_over_two_processes_as_over_one(glyph_folder: Path, tmp_path: Path):
    dcgan = [
        "--model.network=dcgan",
        "--model.loss=nonsaturating",
        "--model.penalty=0",
        "--model.discriminator_width=16",
    ]
    for name, processes in (("one", 1), ("two", 2)):
        arguments = tiny_arguments("gan", glyph_folder, tmp_path / name, "--precision=fp32", *SHARES_OF_TWO, *dcgan)
        Training(arguments, processes).finish()
    first, second = ([json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("one", "two"))
    for one, two in zip(first, second, strict=True):
        assert two == pytest.approx(one, rel=2e-2, abs=1e-3)
    assert second[0] == pytest.approx(first[0], rel=1e-4, abs=1e-6)
    assert_learnt_alike(tmp_path / "two", tmp_path / "one", "gan", *dcgan)


def test_the_main_process_decides_where_a_run_goes_on(glyph_folder: Path, tmp_path: Path):
    """Only its disk has the checkpoint; what the other finds on its own is no news."""
    one, resumed, other = tmp_path / "one", tmp_path / "resumed", tmp_path / "other"
    Training(tiny_arguments("vae", glyph_folder, one, *FEW_STEPS)).finish()
    shutil.copytree(one, resumed)
    shutil.rmtree(resumed / "pretrained")
    shutil.rmtree(resumed / "checkpoints" / "000000000048")
    training = Training(tiny_arguments("vae", glyph_folder, resumed, *FEW_STEPS), 2, by_rank=[[], [f"--out={other}"]])
    training.finish()
    assert [json.loads(line)["processes"] for line in (resumed / "speed.jsonl").open()] == [1, 1, 2]
    assert_learnt_alike(resumed, one, "vae")
    assert not other.exists()
    assert "processes 1 before, 2 now" in training.tail()
    computed = json.loads((resumed / "run.json").read_text())["computed"]
    assert [(entry["from"], entry["processes"]) for entry in computed] == [(0, 1), (32, 2)]


def test_the_main_process_decides_what_is_finished(glyph_folder: Path, tmp_path: Path):
    done, new = tmp_path / "done", tmp_path / "new"
    Training(tiny_arguments("vae", glyph_folder, done, *FEW_STEPS)).finish()
    before = (done / "run.json").stat().st_mtime_ns
    arguments = tiny_arguments("vae", glyph_folder, new, *FEW_STEPS)
    Training(arguments, 2, by_rank=[[], [f"--out={done}"]]).finish()
    assert (new / "pretrained" / "model_index.json").is_file()
    finished = Training(tiny_arguments("vae", glyph_folder, done, *FEW_STEPS), 2, by_rank=[[], [f"--out={tmp_path}"]])
    finished.finish()
    assert "is finished already" in finished.tail() and before == (done / "run.json").stat().st_mtime_ns


def test_the_main_processs_refusal_is_everybodys(glyph_folder: Path, tmp_path: Path):
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "letter.txt").write_text("dear")
    training = Training(tiny_arguments("vae", glyph_folder, tmp_path / "letter", *FEW_STEPS), 2)
    assert training.codes() == [2, 2], training.tail()
    assert "Traceback" not in training.tail()
    assert [path.name for path in (tmp_path / "letter").iterdir()] == ["letter.txt"]


def test_processes_that_see_other_data_are_refused(glyph_folder: Path, tmp_path: Path):
    shutil.copytree(glyph_folder, tmp_path / "less")
    next((tmp_path / "less" / "train").rglob("*.png")).unlink()
    arguments = tiny_arguments("vae", glyph_folder, tmp_path / "run", *FEW_STEPS)
    training = Training(arguments, 2, by_rank=[[], [f"--data={tmp_path / 'less'}"]])
    assert training.codes() == [2, 2], training.tail()
    assert "isn't the same in every process" in training.tail() and not (tmp_path / "run").exists()


def test_two_processes_learn_what_one_learns(family: str, glyph_folder: Path, tmp_path: Path):
    for name, processes in (("one", 1), ("two", 2)):
        Training(tiny_arguments(family, glyph_folder, tmp_path / name, *FEW_STEPS), processes).finish()
    assert all(json.loads(line)["processes"] == 2 for line in (tmp_path / "two" / "speed.jsonl").open())
    assert_learnt_alike(tmp_path / "two", tmp_path / "one", family)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for first, second in zip(*(map(json.loads, log) for log in logs), strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            # Rounding reaches a gradient's norm first: Adam enlarges what is nearly zero.
            tolerance = 2e-2 if key.endswith("gradient_norm") else 1e-3
            assert second[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key
