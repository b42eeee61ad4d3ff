"""Streams of shards: every image once an epoch, few shards on the disk, from the loopback Hub and under its faults."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hub import Hub, client_environment
from hypothesis import given
from hypothesis import strategies as st
from stores import write_images, write_shards

from hfgen.data import ImageStream, batch_indices, open_store, open_stream
from hfgen.data import stream_opening as opening
from hfgen.data.feed import Feed
from hfgen.data.shard_order import ShardOrder
from hfgen.errors import UserError

SIZES = [40, 33, 7, 52, 28, 45]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    held=st.integers(1, 9),
    start=st.integers(0, 300),
    count=st.integers(1, 200),
)
def test_an_epoch_holds_every_image_once_and_any_place_is_computed(
    sizes: list[int], held: int, start: int, count: int
) -> None:
    order, total = ShardOrder(sizes, held), sum(sizes)
    stream = torch.cat([span.rows for span in order.spans(0, start + count + total, 5)])
    for epoch in range(len(stream) // total):
        assert sorted(stream[epoch * total : (epoch + 1) * total].tolist()) == list(range(total))
    other = ShardOrder(sizes, held)
    assert torch.equal(torch.cat([span.rows for span in other.spans(start, count, 5)]), stream[start : start + count])


@given(sizes=st.lists(st.integers(8, 30), min_size=4, max_size=8), held=st.integers(1, 4))
def test_one_shard_comes_at_a_time(sizes: list[int], held: int) -> None:
    order = ShardOrder(sizes, held)
    spans = list(order.spans(0, 3 * sum(sizes), 5))
    for span, after in pairwise(spans):
        assert len(set(span.shards)) == order.held
        assert set(after.shards) - set(span.shards) <= {span.following} <= set(after.shards)
        found = np.searchsorted(order.first, span.rows.numpy(), side="right") - 1
        assert set(found.tolist()) <= set(span.shards)


def test_epochs_and_seeds_are_permuted_differently() -> None:
    order = ShardOrder([50] * 6, 2)
    (first, second), other = (
        torch.cat([span.rows for span in order.spans(0, 600, seed)]).split(300) for seed in (0, 1)
    )
    assert not torch.equal(first, second) and not torch.equal(first, other[0])
    # The shards that are held together are mixed.
    assert len(set((first[:40] // 50).tolist())) == 2


def asked(**own: Any) -> dict[str, Any]:
    usual = {"split": "all", "resolution": 8, "channels": "auto", "small_images": "refuse", "skip_damaged": False}
    return {**usual, "held": 2, "seed": 3, "run": "a test", **own}


@contextmanager
def streamed(data: Path, **own: Any) -> Iterator[ImageStream]:
    with closing(open_stream(str(data), **asked(**own))) as stream:
        yield stream


def pixels(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def on_disk(stream: ImageStream) -> list[str]:
    return [path.name for path in stream._folder.glob("*") if not path.name.endswith(".lock")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, SIZES)
    return folder


@pytest.mark.parametrize("split", ["all", "train"])
def test_a_stream_has_the_stores_images_once_an_epoch(split: str, shards: Path) -> None:
    store = open_store(str(shards), split=split, resolution=8)
    label = dict(zip(pixels(store.images), store.labels.tolist(), strict=True))
    with streamed(shards, split=split) as stream:
        count, found = len(store), []
        assert len(stream) == count and (stream.at_hand.classes, stream.at_hand.channels) == (3, 3)
        for seen in range(0, 2 * count + 16, 16):
            images, labels = stream.share(seen, 16, 3)
            found += pixels(images)
            assert labels.tolist() == [label[one] for one in pixels(images)]
            # The one that comes next may still be written, under a hidden name.
            assert len(on_disk(stream)) <= 3 and len({name.strip(".")[:6] for name in on_disk(stream)}) <= 3
            halves = [stream.share(seen, 16, 3, rank, 2) for rank in (0, 1)]
            assert torch.equal(torch.cat([half[0] for half in halves]), images)
        for epoch in range(2):
            assert sorted(found[epoch * count : (epoch + 1) * count]) == sorted(label)
        first = stream.at_hand
        assert pixels(first.images[batch_indices(len(first), 0, len(first), 3)]) == found[: len(first)]
    assert not stream._folder.exists()


def test_a_jump_to_any_place_gives_its_images_and_its_shards(shards: Path) -> None:
    with streamed(shards) as stream:
        whole = torch.cat([stream.share(seen, 10, 3)[0] for seen in range(0, 500, 10)])
        for seen in (490, 0, 250, 130):
            assert torch.equal(stream.share(seen, 10, 3)[0], whole[seen : seen + 10])
            assert len(stream._held) == 2
    with streamed(shards) as again, Feed(again, 10, 3, torch.device("cpu")) as feed:
        for seen in (240, 250, 260, 0):
            assert torch.equal(feed.batch(seen).images, whole[seen : seen + 10])
        assert feed.store is again.at_hand


def test_what_a_killed_run_left_is_used_or_removed(shards: Path) -> None:
    stream = open_stream(str(shards), **asked())
    stream.share(0, 4, 3)
    stream._thread.shutdown()
    kept = shutil.copytree(stream._folder, f"{stream._folder}.copy")
    stream.close()
    shutil.move(kept, stream._folder)
    (stream._folder / ".000099.tmp0").mkdir()
    (stream._folder / ".000098.parquet").write_bytes(b"half")
    with streamed(shards) as again:
        times = {path: path.stat().st_mtime_ns for path in again._folder.glob("0*/images.npy")}
        again.share(0, 4, 3)
        assert not list(again._folder.glob(".00009*"))
        assert times == {path: path.stat().st_mtime_ns for path in again._folder.glob("0*/images.npy")} and times


def damage(path: Path, row: int) -> None:
    import pyarrow as pa

    table, schema = pq.read_table(path).to_pydict(), pq.read_schema(path)
    table["image"][row]["bytes"] = b"none"
    pq.write_table(pa.table(table, schema=schema), path)


def test_a_damaged_image_is_refused_or_replaced_in_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path, [20, 20, 20])
    damage(next(tmp_path.glob("*-00001-of*")), 4)
    with pytest.raises(UserError, match=r"^data: train-00001-of-00003.parquet of .*, row 4, can't be read .*skip_dam"):
        open_stream(str(tmp_path), **asked(held=3))
    with streamed(tmp_path, held=3, skip_damaged=True) as stream:
        found = pixels(stream.share(0, 60, 3)[0])
    assert len(set(found)) == 59 and max(map(found.count, found)) == 2
    assert "train-00001-of-00003.parquet" in caplog.text and "damaged images replaced by a neighbour" in caplog.text


def test_each_shard_with_damaged_images_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "two", [20, 20])
    for path in (tmp_path / "two").iterdir():
        damage(path, 4)
    with streamed(tmp_path / "two", skip_damaged=True):
        said = [line.partition(" of ")[0] for line in caplog.messages if "damaged images replaced" in line]
    assert sorted(said) == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    write_shards(tmp_path / "one", [1, 20])
    damage(tmp_path / "one" / "train-00000-of-00002.parquet", 0)
    words = "data: none of the 1 images of train-00000-of-00002.parquet of .* can be read; fix them"
    with pytest.raises(UserError, match=words):
        open_stream(str(tmp_path / "one"), **asked(skip_damaged=True))


def test_labels_of_some_images_only_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pyarrow as pa

    write_shards(tmp_path, [20, 20])
    path = next(tmp_path.glob("*-00001-of*"))
    table = pq.read_table(path)
    labels = pa.array([None] * 5 + [1] * 15, pa.int64())
    pq.write_table(table.set_column(1, table.schema.field("label"), labels), path)
    with streamed(tmp_path) as stream:
        assert stream.share(0, 4, 3)[1] is None and stream.at_hand.classes == 0
    assert "labels are left out: 5 of the 40 images of train have none" in caplog.text


def test_what_cannot_be_streamed_is_refused_before_it_is_read(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    write_images(tmp_path / "files", 4)
    (tmp_path / "words").mkdir()
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "words" / "train.parquet")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 no parquet")
    write_shards(tmp_path / "half", [20, 20])
    half = next((tmp_path / "half").glob("*-00001-of*"))
    half.write_bytes(half.read_bytes()[:-20])
    write_images(tmp_path / "grey", 4)
    rows = [{"image": {"bytes": path.read_bytes(), "path": None}} for path in sorted((tmp_path / "grey").iterdir())]
    (tmp_path / "l").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "l" / "train.parquet")
    for data, words in {
        "glyphs": "stream: glyphs isn't parquet files, which alone are read shard by shard; leave --stream out",
        str(tmp_path / "files"): "stream: .*files isn't parquet files",
        str(tmp_path / "words"): "data: .*words has no column of images",
        str(tmp_path / "broken"): "data: .*broken can't be loaded",
        str(tmp_path / "half"): r"data: .*-00001-of-00002.parquet of .*half can't be loaded .*; check the connection",
        str(tmp_path / "l"): "channels: the first images of .*/l are grey, .*; use --channels 1 or --channels 3",
    }.items():
        with pytest.raises(UserError, match=f"^{words}"):
            open_stream(data, **asked())
    with streamed(tmp_path / "l", channels=1) as stream:
        assert stream.share(0, 2, 3)[0].shape == (2, 1, 8, 8)
    monkeypatch.setattr(opening, "free_disk", lambda folder: 20_000)
    with pytest.raises(UserError, match=r"^stream: 2 shards of .* and the next one take 0.0 GB at 8 px, .*--stream"):
        open_stream(str(shards), **asked())


HUB = """
import contextlib, json, logging, sys
from hfgen.data import open_stream
from hfgen.errors import UserError
logging.basicConfig(level="WARNING")
try:
    with contextlib.closing(open_stream("org/set", **json.loads(sys.argv[1]))) as stream:
        places = len(stream)
        images = [one.numpy().tobytes().hex() for seen in range(0, places, 10) for one in stream.share(seen, 10, 3)[0]]
        files = [path.name for path in stream._folder.rglob("*.parquet")]
    print(json.dumps([places, images[:places], files]))
except UserError as error:
    print(json.dumps(str(error)))
"""


def from_hub(hub: Hub, home: Path, **own: Any) -> subprocess.CompletedProcess[str]:
    environment = client_environment(hub, home, HFGEN_CACHE=str(home / "hfgen"))
    command = [sys.executable, "-c", HUB, json.dumps(asked(**own))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_a_hubs_shards_come_whole_by_and_by_under_faults(shards: Path, tmp_path: Path) -> None:
    with Hub(tmp_path / "hub") as hub:
        repo = hub.storage.create("dataset", "org/set")
        hub.storage.add_folder(repo, shards)
        # Four requests look at a shard's footer and labels, the fifth one fetches it.
        hub.fail("GET .*resolve.*-00003-of", "truncated", after=4)
        hub.fail("GET .*resolve.*-00001-of", 503, after=4)
        done = from_hub(hub, tmp_path / "home")
        places, images, files = json.loads(done.stdout)
        assert places == sum(SIZES) and len(set(images)) == places and len(files) <= 1
        assert "the Hub failed (Server error '503" in done.stderr and not any(fault.times for fault in hub.faults)
        with streamed(shards) as stream:
            same = [one.hex() for seen in range(0, places, 10) for one in pixels(stream.share(seen, 10, 3)[0])]
        assert images == same[:places]
        # Nothing of the shards is left, nor in the Hub's own cache.
        left = [path for path in (tmp_path / "home").rglob("*") if path.suffix in (".parquet", ".arrow")]
        assert not left and not list((tmp_path / "home" / "hfgen" / "streams").iterdir())

        hub.fail("GET .*resolve.*-00004-of", 503, after=4, times=99)
        error = json.loads(from_hub(hub, tmp_path / "other").stdout)
    assert error.startswith("data: train-00004-of-00006.parquet of org/set")
    assert "503" in error and "repeat the command: a run goes on from its newest checkpoint" in error
    assert not list((tmp_path / "other" / "hfgen" / "streams").iterdir())


def test_notes_are_said_once_for_all_shards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="hfgen")
    write_shards(tmp_path, [20, 20, 20], size=12)
    with streamed(tmp_path, channels=1) as stream:
        stream.share(0, 60, 3)
    said = [record.getMessage() for record in caplog.records if "converted to grey" in record.getMessage()]
    assert len(said) == 1 and ".parquet of" in said[0]
