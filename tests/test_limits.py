from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hfgen.limits import busy_cores, free_disk, free_memory, usable_cores

LIMITED = """
import sys
import psutil
from hfgen.limits import free_memory
process = psutil.Process()
before = free_memory()
used = getattr(process.memory_info(), sys.argv[2])
process.rlimit(getattr(psutil, sys.argv[1]), (used + 2**24,) * 2)
print(before > 2**24, 0 < free_memory() <= 2**24)
"""


def machine(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """A root folder with the files in which Linux tells control groups and their limits."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": limits[name] for name in limits},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        # A container, whose own group looks like the root; then a job's group below one without a limit.
        ("0::/", {"memory.max": "4096"}),
        ("0::/slurm/job", {"slurm/memory.max": "4096", "slurm/job/memory.max": "max"}),
        ("0::/slurm/job", {"slurm/memory.max": "9999", "slurm/job/memory.max": "4096"}),
        # Version 1: seen from the host, and from a container that is named as the host names it.
        ("3:cpu:/\n4:memory:/docker/1", {"memory/docker/1/memory.limit_in_bytes": "4096"}),
        ("3:cpu:/\n4:memory:/docker/1", {"memory/memory.limit_in_bytes": "4096"}),
    ],
)
def test_a_control_group_limits_the_memory(tmp_path: Path, groups: str, limits: dict[str, str]) -> None:
    assert free_memory(machine(tmp_path, groups, limits)) == 4096


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("0::/", {"memory.max": "max"}),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}),
        ("4:cpu:/", {"memory.max": "4096"}),
    ],
)
def test_no_limit_is_what_the_machine_has(tmp_path: Path, groups: str, limits: dict[str, str]) -> None:
    root = machine(tmp_path, groups, limits)
    assert 4096 < free_memory(root) <= psutil.virtual_memory().total
    assert 4096 < free_memory(tmp_path / "another system") <= psutil.virtual_memory().total


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_DATA"), reason="the system has no such limit")
@pytest.mark.parametrize(("kind", "used"), [("RLIMIT_DATA", "data"), ("RLIMIT_AS", "vms")])
def test_the_process_may_have_a_limit_of_its_own(kind: str, used: str) -> None:
    ran = subprocess.run([sys.executable, "-c", LIMITED, kind, used], capture_output=True, text=True, check=True)
    assert ran.stdout == "True True\n"


def test_the_disk_is_that_of_a_folder_to_come(tmp_path: Path) -> None:
    assert 0 < free_disk(tmp_path / "not" / "there") <= psutil.disk_usage(str(tmp_path)).total


@pytest.mark.parametrize(
    ("groups", "quotas", "cores"),
    [
        ("0::/", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/slurm/job", {"slurm/cpu.max": "50000 100000", "slurm/job/cpu.max": "max 100000"}, 0.5),
        ("3:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "25000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.25),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
    ],
)
def test_a_control_group_limits_the_cores(
    tmp_path: Path, groups: str, quotas: dict[str, str], cores: float | None
) -> None:
    whole = usable_cores(tmp_path / "another system")
    assert whole >= 1 and usable_cores(machine(tmp_path, groups, quotas)) == (cores or whole)


@pytest.mark.parametrize(
    ("own", "launchers", "processes", "cores"),
    [
        (8, 8, 1, 8),
        (4, 8, 1, 4),
        (8, 8, 2, 4),
        # Bound to cores of their own, one by one or two to a socket.
        (4, 8, 2, 4),
        (1, 8, 2, 1),
        (8, 16, 4, 4),
    ],
)
def test_processes_of_a_launch_share_its_cores_unless_each_is_bound_to_its_own(
    own: int, launchers: int, processes: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {0: own, os.getppid(): launchers}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(known[process])), raising=False)
    assert usable_cores(tmp_path, processes) == cores
    quota = machine(tmp_path, "0::/", {"cpu.max": "100000 100000"})
    assert usable_cores(quota, processes) == 1 / processes


def test_what_other_processes_use_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            busy = busy_cores(0.5)
        finally:
            other.kill()
    # A scheduler may give the core to a third for a while.
    assert busy > 0.3
