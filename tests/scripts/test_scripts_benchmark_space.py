"""The load script's own arithmetic, and that it measures a real Space."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_percentiles_are_of_the_values_themselves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarks.space import percentile

    assert percentile(range(1, 101), 0.95) == 95 and percentile([3, 1, 2], 0.5) == 2
    assert percentile([7.0], 0.95) == 7 and percentile([1, 2, 3, 4], 1) == 4


@pytest.mark.slow
def test_three_visitors_are_served_without_an_error(tmp_path: Path):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "space", "--visitors=3", "--requests=2", "--rounds=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("vae-glyphs, vqvae-glyphs, gan-glyphs; ")
    assert "| errors of 6 requests | 0 | 0 |" in done.stdout
    assert re.search(r"\| 3 visitors, s: p95 \| \d+\.\d\d \|", done.stdout)
