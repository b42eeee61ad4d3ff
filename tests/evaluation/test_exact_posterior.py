"""An exact posterior is found by the weights that it is of, wherever they lie, and by no other's."""

from pathlib import Path

import pytest

from hfgen.documents import POSTERIOR
from hfgen.errors import UserError
from hfgen.evaluation.exact_posterior import entry_of, read_entry
from hfgen.files import write_json


def entry(name: str, weights: str | None, n: int = 4) -> dict[str, object]:
    given = {} if weights is None else {"weights": weights}
    return {"name": name, "id": name, **given, "resolution": 16, "n": n, "converged": n, "metrics": {}, "images": []}


def document(*models: dict[str, object]) -> dict[str, object]:
    budget = {"name": "full", "n": 4, "points": 1, "particles": 1, "sweeps": 1, "attempts": 1}
    return {"schema": POSTERIOR.version, "budget": budget, "seed": 0, "versions": {}, "models": list(models)}


def test_the_entry_is_that_of_these_weights_at_this_size(tmp_path: Path):
    mine, other = "a" * 64, "b" * 64
    made = document(entry("x", other), entry("y", mine), entry("y again", mine, 9))
    found = entry_of(made, mine, 16)
    assert found is not None and found["name"] == "y again"
    assert entry_of(made, mine, 32) is None and entry_of(made, "c" * 64, 16) is None
    write_json(tmp_path / "posterior.json", made)
    assert read_entry(tmp_path, other, 16, "runs/x")["name"] == "x"
    assert read_entry(tmp_path / "posterior.json", other, 16, "runs/x")["name"] == "x"
    with pytest.raises(UserError, match="none has the weights of runs/z at 16 px; run `hfgen study posterior runs/z"):
        read_entry(tmp_path, "c" * 64, 16, "runs/z")
    with pytest.raises(UserError, match="there is no "):
        read_entry(tmp_path / "nowhere", mine, 16, "runs/x")


def test_a_file_of_before_is_refused_with_the_command_that_renews_it(tmp_path: Path):
    write_json(tmp_path / "posterior.json", document(entry("x", None)))
    with pytest.raises(UserError, match=r"doesn't say which weights it is of; run .* again, which keeps its images'"):
        read_entry(tmp_path, "a" * 64, 16, "runs/x")
