"""How many processes a launcher started, by its variables: those of `accelerate launch`, torchrun and MPI."""

from __future__ import annotations

import os

from hfgen.errors import SettingsError

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def process_count() -> int:
    """Of this launch; 1 without a launcher."""
    return max(_number(name, 1) for name in _SIZES)


def local_process_count() -> int:
    """Of this launch on this machine; 1 without a launcher."""
    return max(1, *(_number(name, 1) for name in _LOCAL_SIZES))


def process_index() -> int:
    """Of this process in its launch, from 0."""
    return max(_number(name, 0) for name in _RANKS)


def refuse_launcher(what: str) -> None:
    """Refuse to do the same in every process of a launch.

    Raises:
        SettingsError: a launcher started several.
    """
    if (count := process_count()) > 1:
        raise SettingsError(f"processes: {count} were launched, and {what} runs in one; start it without a launcher")


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
