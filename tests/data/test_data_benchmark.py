from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmarks import data, streams

IN_MEMORY = ["in memory: gather", "in memory: gather, to float"]
MAPPED = ["mapped, cached: gather, to float", "mapped, from the disk: gather"]


def settings(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    small = ["--batch_size", "4", "--megabytes", "40", "--rounds", "2", "--seconds", "0.01"]
    return parser.parse_args([*small, *arguments])


def test_a_missed_bar_fails_the_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(data, "BARS", {32: 10**12, 64: 1, 256: None})
    assert data.run(settings()) == 0
    assert data.run(settings("--check")) == 1
    lines = capsys.readouterr().out.splitlines()
    whats = IN_MEMORY + (MAPPED if hasattr(psutil, "RLIMIT_DATA") else [])
    assert [line[:38].strip() for line in lines] == 2 * ["what", *(3 * whats)]
    assert [line.split()[-1] for line in lines[1:5]] == ["no", "no", "no", "-"][: len(whats)]
    monkeypatch.setattr(data, "BARS", {32: 1})
    assert data.run(settings("--check")) == 0


def test_the_median_round_decides_and_the_spread_is_shown() -> None:
    row: dict[str, Any] = {"what": "gather", "resolution": 32, "rates": [7.0, 900.0, 20_000.0]}
    assert data.Row(**row, bar=900).passed
    assert not data.Row(**row, bar=901).passed
    assert data.table([data.Row(**row, bar=901)]).splitlines()[1].split() == [
        *("gather", "32", "900", "7", "to", "20,000", "901", "no")
    ]


def test_the_limit_of_the_memory_is_lifted_again() -> None:
    if hasattr(psutil, "RLIMIT_DATA"):
        before = psutil.Process().rlimit(psutil.RLIMIT_DATA)
        with data._memory_below(10**8):
            assert psutil.Process().rlimit(psutil.RLIMIT_DATA) != before
        assert psutil.Process().rlimit(psutil.RLIMIT_DATA) == before


def test_images_of_parquet_are_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HFGEN_CACHE", str(tmp_path))
    row = data.decode(16, 20, rounds=2)
    assert len(row.rates) == 2 and all(0 < rate < float("inf") for rate in row.rates)


def test_a_core_is_that_of_all_workers() -> None:
    row = streams._row("streamed", 32, [streams.Worker(100, 1.0, 3), streams.Worker(100, 3.0, 5)])
    assert row.split() == ["streamed", "2", "32", "50", "3,", "5"]


@pytest.mark.slow
def test_streams_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(data, "BARS", {16: None})
    assert data.run(settings("--stream", "512")) == 0
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [*("streamed from a Hub",) * 2, "streamed from a folder", "decoded into a store, once", rows[-1]]
