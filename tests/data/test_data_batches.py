from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfgen.data import batch_indices


@given(size=st.integers(1, 40), start=st.integers(0, 200), count=st.integers(1, 200), seed=st.integers(-9, 9))
def test_an_epoch_holds_every_image_once(size: int, start: int, count: int, seed: int) -> None:
    stream = batch_indices(size, 0, start + count + size, seed)
    for epoch in range(len(stream) // size):
        assert sorted(stream[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))
    assert torch.equal(batch_indices(size, start, count, seed), stream[start : start + count])


@given(size=st.integers(1, 30), cuts=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_the_stream_does_not_depend_on_the_batch_sizes(size: int, cuts: list[int]) -> None:
    starts = [sum(cuts[:index]) for index in range(len(cuts))]
    batches = [batch_indices(size, start, count, 3) for start, count in zip(starts, cuts, strict=True)]
    assert torch.equal(torch.cat(batches), batch_indices(size, 0, sum(cuts), 3))


def test_epochs_and_seeds_are_permuted_differently() -> None:
    first, second = batch_indices(100, 0, 200, seed=0).split(100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(100, 0, 100, seed=1))


def test_changing_a_batch_does_not_change_the_next_one() -> None:
    before = batch_indices(10, 0, 10, seed=0)
    batch_indices(10, 0, 10, seed=0).zero_()
    assert torch.equal(batch_indices(10, 0, 10, seed=0), before)


@pytest.mark.parametrize(("size", "seen", "count"), [(0, 0, 1), (5, -1, 1), (5, 0, 0)])
def test_a_batch_of_nothing_is_refused(size: int, seen: int, count: int) -> None:
    with pytest.raises(ValueError, match="no batch for"):
        batch_indices(size, seen, count, 0)
