"""What this process may still take: memory, and room on a disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil  # type: ignore[import-untyped]


def free_memory(root: Path = Path("/")) -> int:
    """Bytes: the least of what the machine has, control groups (containers, Slurm) allow, and `ulimit` leaves."""
    return min([psutil.virtual_memory().available, *_group_limits(root), *_own_limits()])


def free_disk(folder: Path) -> int:
    """Bytes free where the folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return psutil.disk_usage(str(folder)).free


def _group_limits(root: Path) -> Iterator[int]:
    """The limits of this process's control groups, of version 1 or 2; their use isn't read: it counts cached files."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            mounted = root / "sys/fs/cgroup" / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                # Absent, or the word "max", where there is no limit.
                with contextlib.suppress(OSError, ValueError):
                    yield int((mounted / str(group).lstrip("/") / name).read_text())


def _own_limits() -> Iterator[int]:
    if not hasattr(psutil, "RLIMIT_DATA"):
        return
    process = psutil.Process()
    used = process.memory_info()
    for kind, taken in ((psutil.RLIMIT_DATA, used.data), (psutil.RLIMIT_AS, used.vms)):
        limit, _ = process.rlimit(kind)
        if limit != psutil.RLIM_INFINITY:
            yield max(0, limit - taken)
