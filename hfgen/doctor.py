"""What this machine can do, and what is missing: all that a bug report needs."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hfgen import __version__
from hfgen.extras import install_command, requirements
from hfgen.files import cache_dir
from hfgen.limits import busy_cores, usable_cores

# What is imported to see whether a package works: diffusers and transformers import little by themselves.
_PROBES = {
    "torch": "torch",
    "diffusers": "diffusers.models.autoencoders.autoencoder_kl",
    "transformers": "transformers.models.gpt2.modeling_gpt2",
    "accelerate": "accelerate",
    "datasets": "datasets",
    "huggingface_hub": "huggingface_hub",
}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HFGEN_CACHE", "HF_HOME", "HF_ENDPOINT", "PYTORCH_ALLOC_CONF")


def findings() -> Iterator[tuple[str, str]]:
    """(what, finding), one line each; a package that is missing or broken is a finding too."""
    yield "hfgen", f"{__version__} in {Path(__file__).parent}"
    yield "python", f"{platform.python_version()} ({platform.python_implementation()}, {sys.executable})"
    yield "system", platform.platform()
    for name, finding in (("cores", _cores), ("memory", _memory)):
        yield name, _said(finding)
    for name in _packages():
        yield name, _said(lambda name=name: _package(name))  # type: ignore[misc]
    for name, finding in (("GPU", _gpus), ("device", _device), ("training", _training)):
        yield name, _said(finding)
    yield "cache", _said(lambda: _place(cache_dir()))
    yield "Hub cache", _said(_hub_cache)
    yield "Hub token", _said(_token)
    yield "offline", ", ".join(f"{name}={os.environ[name]}" for name in _OFFLINE if os.environ.get(name)) or "no"
    yield "accelerate config", _said(_accelerate_config)
    yield "variables", _variables(lambda name: name in _VARIABLES) or "none set"
    yield "browser", find_browser() or "none, so the tests of the Space's page are skipped"
    for extra, what in (
        ("space", "Space"),
        ("inception", "FID's network"),
        ("perceptual", "LPIPS, DISTS"),
        ("track", "trackers"),
    ):
        yield what, _extra(extra)


def find_browser() -> str | None:
    """Chromium, which the Space's page is tested and timed in."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def _said(finding: Callable[[], str]) -> str:
    """The finding, or in one line why there is none: whatever a broken package raises."""
    try:
        return finding()
    except Exception as error:
        return f"broken: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _cores() -> str:
    busy = ""
    with contextlib.suppress(ImportError):
        busy = f"; other processes use {busy_cores():.1f}"
    return f"{usable_cores():.3g} usable of {os.cpu_count()}, {platform.machine()}{busy}"


def _memory() -> str:
    import psutil  # type: ignore[import-untyped]

    memory = psutil.virtual_memory()
    return f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free"


def _packages() -> list[str]:
    """Names of the packages that hfgen needs, those that break first."""
    named = map(_name, requirements())
    return [*_PROBES, *(name for name in named if name not in _PROBES)]


def _name(requirement: str) -> str:
    """`jsonargparse` of `jsonargparse[signatures]>=4.40`."""
    return "".join(letter if letter.isalnum() or letter in "-_." else " " for letter in requirement).split()[0]


def _package(name: str) -> str:
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"missing: pip install {name}"
    if name in _PROBES:
        importlib.import_module(_PROBES[name])
    return found


def _gpus() -> str:
    import torch

    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = [f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in names]
    if torch.backends.mps.is_available():
        found.append("Apple's (mps)")
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return f"{', '.join(found) or 'none that torch can use'}; torch was built with {built}"


def _device() -> str:
    import torch

    from hfgen.devices import describe

    return describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _training() -> str:

    from hfgen.devices import choose_device
    from hfgen.kernels import choose_kernels

    return str(choose_kernels(choose_device())).split(": ", 1)[1]


def _place(folder: Path) -> str:
    """A folder, what is free there, and whether it can be written."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    readonly = "" if os.access(existing, os.W_OK) else ", NOT writable"
    return f"{folder}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free{readonly}"


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return _place(Path(HF_HUB_CACHE))


def _token() -> str:
    from huggingface_hub import get_token

    return "yes" if get_token() else "no: `hf auth login` (public models need none)"


def _accelerate_config() -> str:
    """The file that `accelerate launch` reads, and the variables that it sets or that replace it."""
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "accelerate"
    found = [str(path) for path in sorted(folder.glob("default_config.*"))]
    variables = _variables(lambda name: name.startswith(("ACCELERATE_", "FSDP_")))
    return ", ".join(filter(None, [*found, variables])) or "none"


def _variables(wanted: Callable[[str], bool]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if wanted(name))


def _extra(extra: str) -> str:
    """Versions of an extra's packages, or what installs them."""
    found = []
    for name in map(_name, requirements(extra)):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return f"missing: {install_command(extra)}"
    return ", ".join(found) or f"unknown: {install_command(extra)}"
