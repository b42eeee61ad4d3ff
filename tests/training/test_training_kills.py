"""Training that is killed and repeated ends with the bits, and the log, of training that never was."""

import functools
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY
from trainings import Moment, Training, tiny_arguments

from hfgen.training.checkpoints import checkpoint_folders, load_checkpoint
from hfgen.training.run_folder import LOCK

# Log lines, sample grids and checkpoints fall on different images, so that sums go through checkpoints.
RUN = ("--max_images=320", "--checkpoint_every=32", "--log_every=48", "--sample_every=160")
LONG = ("--max_images=960", *RUN[1:])

Whole = Callable[..., Path]


@pytest.fixture(scope="module")
def whole(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The folder of a run that was never interrupted, by family, number of processes and settings."""

    @functools.cache
    def run(family: str, processes: int, *settings: str) -> Path:
        out = tmp_path_factory.mktemp("whole") / family
        Training(tiny_arguments(family, glyph_folder, out, *settings), processes).finish()
        return out

    return run


def start(family: str, data: Path, out: Path, *settings: str, processes: int = 1, die_before: Moment = ()) -> Training:
    return Training(tiny_arguments(family, data, out, *settings), processes, die_before)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random moments; the seed is printed, as every failure shows."""
    seed = random.randrange(2**32)
    print(f"{request.node.name}: seed {seed}")
    return random.Random(seed)


def names(out: Path) -> list[str]:
    return [folder.name for folder in checkpoint_folders(out / "checkpoints")]


def newest(out: Path) -> str:
    return max(names(out), default="")


def leftovers(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob(".*") if path != out / LOCK]


def assert_visible_is_whole(out: Path) -> None:
    """A kill leaves nothing half-written under a name that anybody looks for."""
    for path in (out / "checkpoints").glob("[0-9]*"):
        load_checkpoint(path)
        assert (path / "pretrained" / "model_index.json").is_file()
    if (out / "pretrained").exists():
        assert contents(out / "pretrained") == contents(out / "checkpoints" / newest(out) / "pretrained")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(out: Path, whole: Path) -> None:
    """Weights, averages, optimizers, log sums, log, sample grids and the published pipeline: bit for bit."""
    assert names(out) == names(whole)
    for name in names(out):
        record, wanted = (
            json.loads((folder / "checkpoints" / name / "training_state" / "state.json").read_text())
            for folder in (out, whole)
        )
        differ = [file for file in wanted["sha256"] if record["sha256"].get(file) != wanted["sha256"][file]]
        assert record == wanted, f"checkpoint {name} differs in {differ}"
    assert (out / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    for folder in ("samples", "pretrained"):
        assert contents(out / folder) == contents(whole / folder), folder
    lines = {name: [json.loads(line) for line in (out / name).open()] for name in ("log.jsonl", "speed.jsonl")}
    assert [line["images"] for line in lines["speed.jsonl"]] == [line["images"] for line in lines["log.jsonl"]]
    assert leftovers(out) == []
    assert_visible_is_whole(out)


def kill_after_progress(training: Training, chance: random.Random) -> None:
    """Kill at a random moment after the next checkpoint, the saves of the two behind it among them."""
    before = newest(training.out)
    training.until(lambda: newest(training.out) > before)
    time.sleep(chance.uniform(0, 0.15))
    training.kill()
    assert_visible_is_whole(training.out)


def kill_in_save(training: Training) -> None:
    """Kill while a checkpoint is being written: stopped first, to be sure of it."""

    def saving() -> bool:
        return any((training.out / "checkpoints").glob(".*.tmp*"))

    before = newest(training.out)
    training.until(lambda: newest(training.out) > before)
    while not saving():
        training.until(saving)
        training.send(signal.SIGSTOP)
        if not saving():
            training.send(signal.SIGCONT)
    training.kill()
    assert saving()
    assert_visible_is_whole(training.out)


# What a family keeps is tested step by step in test_training_loop, and in two processes in test_training_processes; a
# kill knows nothing of families. So here are those with the most to keep, and the others are slow tests. One process is
# killed at every delicate moment below.
KILLED = ("gan", "vqgan")


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[pytest.mark.slow] if name not in KILLED else []) for name in sorted(TINY)],
)
def test_killed_at_random_and_repeated(
    processes: int, family: str, glyph_folder: Path, tmp_path: Path, whole: Whole, chance: random.Random
):
    out = tmp_path / "run"
    for _ in range(2 if processes == 1 else 1):
        kill_after_progress(start(family, glyph_folder, out, *RUN, processes=processes), chance)
    start(family, glyph_folder, out, *RUN, processes=processes).finish()
    assert_same(out, whole(family, processes, *RUN))


def test_killed_while_it_saves(glyph_folder: Path, tmp_path: Path, whole: Whole):
    # Wide, so that a save takes long.
    out, wide = tmp_path / "run", ("--model.max_width=128", "--max_images=160", *RUN[1:])
    for _ in range(2):
        kill_in_save(start("vae", glyph_folder, out, *wide))
    start("vae", glyph_folder, out, *wide).finish()
    assert_same(out, whole("vae", 1, *wide))


MOMENTS: dict[str, Moment] = {
    "the folder is claimed": [("os.rename", r"/run\.json'")],
    "a line is logged, the checkpoint isn't begun": [("os.mkdir", r"/\.0+64\.tmp")],
    "a resume cuts the log": [("os.rename", r"/log\.jsonl'")],
    "log.jsonl has a line that speed.jsonl has not": [("open", r"/log\.jsonl', 'a'"), ("open", r"/speed\.jsonl', 'a'")],
    "a checkpoint's checksums are taken": [("open", r"/\.0+64\.tmp.*/optimizer")],
    "a checkpoint is whole and not renamed": [("os.rename", r"/\.0+64\.tmp.*/0+64'")],
    "an old checkpoint is to be removed": [("os.rename", r"/0+32'.*\.old")],
    "an old checkpoint is hidden": [("shutil.rmtree", r"/\.0+64\.old")],
    "an old checkpoint is half removed": [("shutil.rmtree", r"/\.0+96\.old"), ("os.remove", ""), ("os.remove", "")],
    "a sample grid is written": [("os.rename", r"/0+320\.png'")],
    "the pipeline is being published": [("shutil.copytree", r"/\.pretrained\.tmp")],
    "the pipeline is copied and not renamed": [("os.rename", r"/\.pretrained\.tmp.*/pretrained'")],
}
"""Kills of one run, in its order."""


def test_killed_at_every_delicate_moment(glyph_folder: Path, tmp_path: Path, whole: Whole):
    out = tmp_path / "run"
    for name, moment in MOMENTS.items():
        training = start("vae", glyph_folder, out, *RUN, die_before=moment)
        assert training.codes() == [-signal.SIGKILL], f"never came to where {name}: {training.tail()}"
        assert_visible_is_whole(out)
    assert leftovers(out) != []
    start("vae", glyph_folder, out, *RUN).finish()
    assert_same(out, whole("vae", 1, *RUN))


LAST_CHECKPOINT: dict[str, Moment] = {
    "the next one is being written": [("os.mkdir", r"/\.0+64\.tmp")],
    "the next one is whole and not renamed": [("os.rename", r"/\.0+64\.tmp.*/0+64'")],
    "the next one is there, and the last is to be removed": [("os.rename", r"/0+32'.*\.old")],
    "the last is hidden": [("shutil.rmtree", r"/\.0+64\.old")],
    "the last is half removed": [("shutil.rmtree", r"/\.0+96\.old"), ("os.remove", ""), ("os.remove", "")],
    "the pipeline is being published": [("shutil.copytree", r"/\.pretrained\.tmp")],
}
"""Kills of a run that keeps one checkpoint, in its order, after its first one."""


def test_a_run_that_keeps_one_checkpoint_always_has_one(glyph_folder: Path, tmp_path: Path, whole: Whole):
    out, settings = tmp_path / "run", (*RUN, "--keep_checkpoints=1")
    for name, moment in LAST_CHECKPOINT.items():
        training = start("vae", glyph_folder, out, *settings, die_before=moment)
        assert training.codes() == [-signal.SIGKILL], f"never came to where {name}: {training.tail()}"
        assert names(out) != [], name
        assert_visible_is_whole(out)
    start("vae", glyph_folder, out, *settings).finish()
    assert_same(out, whole("vae", 1, *settings))


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_processes_is_killed_and_the_other_does_not_hang(
    rank: int, glyph_folder: Path, tmp_path: Path, whole: Whole, chance: random.Random
):
    out = tmp_path / "run"
    training = start("vae", glyph_folder, out, *RUN, processes=2)
    training.until(lambda: newest(out) != "")
    time.sleep(chance.uniform(0, 0.15))
    training.send(signal.SIGKILL, [rank])
    codes = training.codes()
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] != 0, training.tail()
    assert_visible_is_whole(out)
    start("vae", glyph_folder, out, *RUN, processes=2).finish()
    assert_same(out, whole("vae", 2, *RUN))


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_of_two_processes_stops_both_with_a_checkpoint(
    rank: int, glyph_folder: Path, tmp_path: Path, whole: Whole
):
    """To both, by their launcher: test_training_processes."""
    out = tmp_path / "run"
    training = start("gan", glyph_folder, out, *RUN, processes=2)
    training.until(lambda: newest(out) != "")
    training.send(signal.SIGTERM, [rank])
    assert training.codes() == [0, 0], training.tail()
    assert "repeat the command to go on" in training.tail() and "Traceback" not in training.tail()
    # Processes agree on a stop at every tenth step of 16 images.
    assert int(newest(out)) in (160, 320) and not (out / "pretrained").exists() and leftovers(out) == []
    start("gan", glyph_folder, out, *RUN, processes=2).finish()
    assert_same(out, whole("gan", 2, *RUN))


def test_a_second_command_waits_until_the_first_one_is_gone(glyph_folder: Path, tmp_path: Path, whole: Whole):
    out = tmp_path / "run"
    first = start("vae", glyph_folder, out, *RUN)
    first.until(lambda: newest(out) != "")
    first.send(signal.SIGSTOP)
    second = start("vae", glyph_folder, out, *RUN)
    assert second.codes() == [2]
    assert f"hfgen: error: out: another process trains in {out} now; wait for it or end it" in second.tail()
    first.kill()
    start("vae", glyph_folder, out, *RUN).finish()
    assert_same(out, whole("vae", 1, *RUN))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 8), (2, 5)])
def test_killed_many_times_and_repeated(
    processes: int, kills: int, family: str, glyph_folder: Path, tmp_path: Path, whole: Whole, chance: random.Random
):
    out = tmp_path / "run"
    for index in range(kills):
        training = start(family, glyph_folder, out, *LONG, processes=processes)
        if index % 4 == 3:
            kill_in_save(training)
        else:
            kill_after_progress(training, chance)
    start(family, glyph_folder, out, *LONG, processes=processes).finish()
    assert_same(out, whole(family, processes, *LONG))


@pytest.mark.slow
def test_killed_at_moments_that_have_nothing_to_do_with_its_work(
    family: str, glyph_folder: Path, tmp_path: Path, whole: Whole, chance: random.Random
):
    out, kills = tmp_path / "run", 0
    for _ in range(100):
        training = start(family, glyph_folder, out, *RUN)
        time.sleep(chance.uniform(0, 1))
        training.send(signal.SIGKILL)
        if training.codes() != [-signal.SIGKILL]:
            break
        kills += 1
        assert_visible_is_whole(out)
    print(f"{kills} kills")
    assert kills >= 1
    start(family, glyph_folder, out, *RUN).finish()
    assert_same(out, whole(family, 1, *RUN))
