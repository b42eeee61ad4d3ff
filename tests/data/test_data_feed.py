"""Batches that a thread gathers ahead are those that are asked for, bit for bit."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hfgen.data import ImageStore, batch_indices, open_store
from hfgen.data import store as stores
from hfgen.data.feed import Feed, to_gpu_if_it_fits

CPU = torch.device("cpu")


@pytest.fixture
def mapped(glyph_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    """A store whose images lie on the disk."""
    monkeypatch.setattr(stores, "free_memory", lambda: 0)
    store = open_store(str(glyph_folder), resolution=16)
    assert store.mapping is not None
    return store


def _expected(store: ImageStore, seen: int, rank: int = 0, processes: int = 1) -> torch.Tensor:
    return batch_indices(len(store), seen, 12, 7).chunk(processes)[rank]


@pytest.mark.parametrize("rank", [0, 1])
def test_batches_are_the_streams_in_any_order(rank: int, mapped: ImageStore):
    with Feed(mapped, 12, 7, CPU, rank, 2) as feed:
        # In order, the same again, and after a jump back, as a gradient check or a resumed run asks.
        for seen in (0, 12, 24, 24, 96, 0, 12, 108):
            images, labels = feed.batch(seen)
            share = _expected(mapped, seen, rank, 2)
            assert images.dtype == torch.uint8 and torch.equal(images, mapped.images[share])
            assert torch.equal(labels, mapped.labels[share])


def test_the_next_batch_is_gathered_meanwhile(mapped: ImageStore, monkeypatch: pytest.MonkeyPatch):
    gathered, whole = [], ImageStore.gather

    def noted(self: ImageStore, indices: torch.Tensor) -> torch.Tensor:
        gathered.append((threading.current_thread().name, indices.tolist()))
        return whole(self, indices)

    monkeypatch.setattr(ImageStore, "gather", noted)
    with Feed(mapped, 12, 7, CPU) as feed:
        feed.batch(0)
        until = time.monotonic() + 30
        while len(gathered) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        assert gathered[1] == (gathered[1][0], _expected(mapped, 12).tolist())
        assert gathered[1][0].startswith("hfgen-feed") and not gathered[0][0].startswith("hfgen-feed")
        feed.batch(12)
    # Each once: what was gathered ahead was used.
    assert [indices for _, indices in gathered].count(_expected(mapped, 12).tolist()) == 1


def test_images_in_memory_need_no_thread(glyph_folder: Path):
    store = replace(open_store(str(glyph_folder), resolution=16), labels=None)
    assert to_gpu_if_it_fits(store, CPU) is store
    before = threading.active_count()
    with Feed(store, 12, 7, CPU) as feed:
        images, labels = feed.batch(12)
        assert threading.active_count() == before
    assert labels is None and torch.equal(images, store.images[_expected(store, 12)])


def test_it_stops_at_an_interrupt(mapped: ImageStore):
    with pytest.raises(KeyboardInterrupt), Feed(mapped, 12, 7, CPU) as feed:
        feed.batch(0)
        raise KeyboardInterrupt
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hfgen-feed")]
    assert torch.equal(feed.batch(36).images, mapped.images[_expected(mapped, 36)])


def test_what_fails_ahead_fails_where_it_is_asked_for(mapped: ImageStore, monkeypatch: pytest.MonkeyPatch):
    def broken(self: ImageStore, indices: torch.Tensor) -> torch.Tensor:
        raise OSError("the disk is gone")

    with Feed(mapped, 12, 7, CPU) as feed:
        monkeypatch.setattr(ImageStore, "gather", broken)
        feed._next = 0, feed._thread.submit(feed._gather, 0)
        with pytest.raises(OSError, match="the disk is gone"):
            feed.batch(0)
