"""What is filled batch by batch goes on where it was interrupted, and only where it is the same work."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hfgen.errors import UserError
from hfgen.evaluation.workspace import fill, gather, workspace


class Maker:
    """Rows that tell their numbers; dies at one of them."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at, self.made = dies_at, []

    def __call__(self, rows: slice) -> dict[str, torch.Tensor]:
        if self.dies_at is not None and rows.stop > self.dies_at:
            raise KeyboardInterrupt
        self.made += range(rows.start, rows.stop)
        numbers = torch.arange(rows.start, rows.stop)
        return {"images": numbers.to(torch.uint8)[:, None].expand(-1, 3), "codes": numbers}


def run(out: Path | None, maker: Maker, key: int = 0) -> dict[str, torch.Tensor]:
    with workspace(out, {"key": key}) as folder:
        return fill(folder, "samples", 10, 3, lambda slices: [maker(rows) for rows in slices], "sampling")


def test_several_slices_at_once_are_the_same_rows(tmp_path: Path):
    asked: list[list[int]] = []

    def make(slices: list[slice]) -> list[dict[str, torch.Tensor]]:
        asked.append([rows.start for rows in slices])
        return [Maker()(rows) for rows in slices]

    arrays = fill(tmp_path, "samples", 10, 3, make, "sampling", at_once=2)
    assert asked == [[0, 3], [6, 9]] and torch.equal(arrays["codes"], torch.arange(10))


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_arrays_outlive_their_folder(on_disk: bool, tmp_path: Path):
    arrays = run(tmp_path if on_disk else None, Maker())
    assert torch.equal(arrays["codes"], torch.arange(10)) and arrays["images"].dtype == torch.uint8
    assert not any(tmp_path.iterdir())


def test_an_interrupted_run_goes_on_and_ends_with_the_same(tmp_path: Path):
    first, second = Maker(dies_at=7), Maker()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    arrays = run(tmp_path, second)
    assert first.made == list(range(6)) and second.made == list(range(6, 10))
    whole = run(None, Maker())
    assert arrays.keys() == whole.keys() and all(torch.equal(arrays[name], whole[name]) for name in whole)


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_was_made_outlives_a_kill(at_once: int, tmp_path: Path):
    """But for the last second: each round takes longer than half of it."""
    code = f"""
import os, signal, time
from pathlib import Path
import torch
from hfgen.evaluation.workspace import fill, workspace

def make(slices):
    time.sleep(0.6)
    if slices[-1].stop == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return [{{"images": torch.zeros(3, 3, dtype=torch.uint8), "codes": torch.arange(s.start, s.stop)}} for s in slices]

with workspace(Path({str(tmp_path)!r}), {{"key": 0}}) as folder:
    fill(folder, "samples", 12, 3, make, "sampling", at_once={at_once})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    second = Maker()
    with workspace(tmp_path, {"key": 0}) as folder:
        arrays = fill(folder, "samples", 12, 3, lambda slices: [second(rows) for rows in slices], "sampling")
    assert second.made == list(range(12 - 3 * at_once, 12)) and torch.equal(arrays["codes"], torch.arange(12))


def test_what_ended_it_is_said_where_nothing_can_be_kept(tmp_path: Path):
    def make(slices: list[slice]) -> list[dict[str, torch.Tensor]]:
        (tmp_path / "made").rmdir()
        (tmp_path / "made").write_text("in the way")
        raise UserError("model: NaN")

    (tmp_path / "made").mkdir()
    with pytest.raises(UserError, match="model: NaN"):
        fill(tmp_path / "made", "samples", 12, 3, make, "sampling")


@pytest.mark.parametrize("damage", ["key", "samples.json", "samples.images.npy"])
def test_other_or_damaged_work_starts_anew(damage: str, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Maker(dies_at=7))
    if damage != "key":
        path = tmp_path / ".partial" / damage
        path.write_bytes(path.read_bytes()[:10])
    again = Maker()
    arrays = run(tmp_path, again, key=int(damage == "key"))
    assert again.made == list(range(10)) and torch.equal(arrays["codes"], torch.arange(10))


def test_gathered_rows_are_those_asked_for():
    stored = torch.randint(0, 256, (700, 1, 2, 2), dtype=torch.uint8)
    chosen = torch.randperm(700)[:600]
    assert torch.equal(gather(lambda rows: stored[rows], chosen, (1, 2, 2)), stored[chosen])
