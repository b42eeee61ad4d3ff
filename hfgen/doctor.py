"""What this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hfgen.files import cache_dir

_REQUIRED = ("torch", "diffusers", "transformers", "accelerate", "datasets", "huggingface_hub")


def findings() -> Iterator[tuple[str, str]]:
    """(what, finding), one line each."""
    import torch

    from hfgen.training.devices import choose_kernels, describe

    yield "python", platform.python_version()
    for name in _REQUIRED:
        yield name, _installed(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = f" of {os.cpu_count()} cores (no GPU that torch can use)" if device.type == "cpu" else ""
    yield "device", f"{describe(device)}{place}"
    yield "training", str(choose_kernels(device)).split(": ", 1)[1]
    yield "cache", f"{cache_dir()}, {shutil.disk_usage(_existing(cache_dir())).free / 2**30:.0f} GiB free"
    yield "Space", "gradio is installed" if find_spec("gradio") else "missing: pip install 'hfgen[space]'"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing: pip install {name}"


def _existing(path: Path) -> Path:
    """The nearest parent that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
