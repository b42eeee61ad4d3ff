"""Stores that are larger than the memory or the disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from stores import entries, equal, write_images

from hfgen.data import ImageStore, open_store
from hfgen.errors import UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def test_a_store_too_large_for_memory_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "set", 10)
    in_memory = open_store(str(tmp_path / "set"), resolution=8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(10**12))
    mapped = open_store(str(tmp_path / "set"), resolution=8)
    assert equal(mapped, in_memory)
    assert in_memory.mapping is None
    assert mapped.mapping is not None
    order = torch.tensor([8, 0, 0, 3])
    for store in (in_memory, mapped):
        assert torch.equal(store.gather(order), in_memory.images[order])
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(entries()[0] / "images.npy") in maps.read_text()


LIMITED = """
import sys
import psutil
import torch
from hfgen.data import batch_indices, open_store
from hfgen.errors import UserError

data, kind, size = sys.argv[1], getattr(psutil, sys.argv[2]), int(sys.argv[3])
process = psutil.Process()
memory = process.memory_info()
used = memory.data if kind == psutil.RLIMIT_DATA else memory.vms
process.rlimit(kind, (used + size // 2,) * 2)
try:
    torch.empty(size, dtype=torch.uint8)
    print("there is no limit")
except RuntimeError:
    pass
try:
    store = open_store(data, resolution=1024, small_images="upscale")
    print(store.images.nbytes >= size, store.fingerprint)
    for seen in range(0, 2 * len(store), 2):
        indices = batch_indices(len(store), seen, 2, 0)
        batch = store.gather(indices)
        assert all(torch.equal(image, store.images[index]) for image, index in zip(batch, indices))
except UserError as error:
    print("UserError", error)
"""


def limited(tmp_path: Path, kind: str) -> tuple[ImageStore, list[str]]:
    """A store of 189 MB, and what a process says that opens it and may take half of that."""
    write_images(tmp_path / "set", 66, channels=3)
    store = open_store(str(tmp_path / "set"), resolution=1024, small_images="upscale")
    arguments = [str(tmp_path / "set"), kind, str(store.images.nbytes)]
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, env={**os.environ, **ONE_THREAD}
    )
    assert ran.returncode == 0, ran.stderr
    return store, ran.stdout.splitlines()


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="the system has no such limit")
def test_a_store_larger_than_the_memory_is_gathered(tmp_path: Path) -> None:
    store, lines = limited(tmp_path, "RLIMIT_DATA")
    assert lines == [f"True {store.fingerprint}"]


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="the system has no such limit")
def test_a_store_that_cannot_be_mapped_is_one_line_and_stays(tmp_path: Path) -> None:
    _, (line,) = limited(tmp_path, "RLIMIT_AS")
    assert re.match(r"UserError cache: .* can't be mapped \(.*Cannot allocate memory.*\); raise .*ulimit -v", line)
    assert len(entries()) == 1


def test_a_store_larger_than_the_disk_is_refused_at_once(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 9, channels=3)
    with pytest.raises(UserError, match=r"^cache: .*/set at 9000000 px takes \d+\.\d GB, and .* has \d+\.\d GB; lower"):
        open_store(str(tmp_path / "set"), resolution=9_000_000, small_images="upscale")
    assert entries() == []
