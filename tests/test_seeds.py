from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hfgen
from hfgen.errors import SettingsError
from hfgen.evaluation.samples import evaluate_samples
from hfgen.seeds import derive_seed

PARTS = st.lists(st.integers() | st.text(), max_size=4)


def test_a_seed_is_the_same_for_ever() -> None:
    assert derive_seed("glyphs", "train", 3) == 4454547796754776170


@given(PARTS, PARTS)
def test_different_parts_give_different_seeds(left: list[int | str], right: list[int | str]) -> None:
    assert (derive_seed(*left) == derive_seed(*right)) == (left == right)


@given(PARTS)
def test_a_seed_is_what_torch_and_numpy_accept(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63


@pytest.mark.parametrize("part", [True, 1.0, np.int64(1), None])
def test_other_kinds_of_parts_are_refused(part: object) -> None:
    with pytest.raises(ValueError, match="int and str"):
        derive_seed(part)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, np.int64(5), "0"])
@pytest.mark.parametrize("measure", [hfgen.evaluate, hfgen.diagnose, evaluate_samples])
def test_a_call_from_python_with_a_seed_that_cannot_be_is_refused_before_any_work(measure, seed: object, tmp_path):
    with pytest.raises(SettingsError, match="seed: "):
        measure("/nowhere", "glyphs", seed=seed, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_evaluator_refuses_such_a_seed_too():
    with pytest.raises(SettingsError, match=r"seed: -1 isn't an integer in \[0, 2\*\*63\)"):
        hfgen.Evaluator("glyphs", resolution=32, n=40, seed=-1)
