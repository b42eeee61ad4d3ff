"""What this process may take: memory, room on a disk, cores."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# psutil is imported where it is used: `hfgen doctor` counts cores where packages are missing.


def free_memory(root: Path = Path("/")) -> int:
    """Bytes: the least of what the machine has, control groups (containers, Slurm) allow, and `ulimit` leaves."""
    import psutil  # type: ignore[import-untyped]

    return min([psutil.virtual_memory().available, *_group_limits(root), *_own_limits()])


def free_disk(folder: Path) -> int:
    """Bytes free where the folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def usable_cores(root: Path = Path("/"), processes: int = 1) -> float:
    """CPU cores: the least of those that the system lets this process run on, and the quotas of control groups.

    Where a launcher started several `processes` here, these share its cores and the quotas; to each of them it may have
    bound cores of its own.
    """
    own = _allowed_cores(0)
    return min([own, *(cores / processes for cores in (max(own, _allowed_cores(os.getppid())), *_group_quotas(root)))])


def busy_cores(seconds: float = 0.1) -> float:
    """How many cores other processes use, as seen for so long; this process waits meanwhile."""
    import psutil

    return psutil.cpu_percent(seconds) / 100 * (os.cpu_count() or 1)


def _allowed_cores(process: int) -> float:
    """Those that a process may run on, by its number; 0: this one."""
    with contextlib.suppress(OSError):
        if hasattr(os, "sched_getaffinity"):
            return float(len(os.sched_getaffinity(process)))
    return float(os.cpu_count() or 1)


def _group_limits(root: Path) -> Iterator[int]:
    """The memory that control groups leave; their use isn't read: it counts cached files."""
    for group, version in _groups(root, "memory"):
        # Absent, or the word "max", where there is no limit.
        with contextlib.suppress(OSError, ValueError):
            yield int((group / ("memory.limit_in_bytes" if version == 1 else "memory.max")).read_text())


def _group_quotas(root: Path) -> Iterator[float]:
    """Cores: the time that control groups leave, per time that passes."""
    for group, version in _groups(root, "cpu"):
        # Absent, "max" or negative where there is no limit.
        with contextlib.suppress(OSError, ValueError):
            if version == 1:
                quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            else:
                quota, period = map(int, (group / "cpu.max").read_text().split())
            if quota > 0:
                yield quota / period


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of this process's control groups, its own and those above, and the version of each: 1 or 2."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            mounted = root / "sys/fs/cgroup" / controllers
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield mounted / str(group).lstrip("/"), 1 if controllers else 2


def _own_limits() -> Iterator[int]:
    import psutil

    if not hasattr(psutil, "RLIMIT_DATA"):
        return
    process = psutil.Process()
    used = process.memory_info()
    for kind, taken in ((psutil.RLIMIT_DATA, used.data), (psutil.RLIMIT_AS, used.vms)):
        limit, _ = process.rlimit(kind)
        if limit != psutil.RLIM_INFINITY:
            yield max(0, limit - taken)
