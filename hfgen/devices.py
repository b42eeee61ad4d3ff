"""The device and the number format that something computes in: chosen, checked and logged in one place."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import logging
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from hfgen.errors import SettingsError
from hfgen.launch import local_process_count, process_count
from hfgen.limits import busy_cores, usable_cores

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_USE_CPU = "ACCELERATE_USE_CPU"
_WAIT = "wait for each other and can be ten times slower"

logger = logging.getLogger("hfgen")


@dataclasses.dataclass(frozen=True)
class Compute:
    """Where a model runs, and in which numbers.

    Attributes:
        device: The device.
        dtype: Of the model's weights and arithmetic; feature extractors always compute in float32.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{describe(self.device)}, {self.dtype_name}"

    @property
    def dtype_name(self) -> str:
        """fp32, bf16 or fp16."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    @property
    def exact(self) -> torch.device:
        """Where float64 is computed: the device, or the CPU beside one that has none (Apple's GPU)."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    def facts(self) -> dict[str, str]:
        """For a record's protocol: `device`, such as `cpu` or `cuda: NVIDIA H100 80GB HBM3`, and `dtype`."""
        kind = self.device.type
        name = f"cuda: {torch.cuda.get_device_name(self.device)}" if kind == "cuda" else kind
        return {"device": name, "dtype": self.dtype_name}

    def place(self, pipeline: Any) -> Any:
        """Move a diffusers pipeline's networks there, in place, and return it."""
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                # Not the pipeline's `to`, which warns of what was asked for: half precision.
                nn.Module.to(component, self.device, self.dtype)
        return pipeline

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Within, a run trains there too: Accelerate, which takes the first GPU that it finds, is told.

        Not under a launcher: it gives each process its own device.
        """
        told = os.environ.get(_USE_CPU)
        if not launched():
            if self.device.type == "cpu":
                os.environ[_USE_CPU] = "true"
            elif self.device.type == "cuda":
                torch.cuda.set_device(self.device)
        try:
            yield
        finally:
            os.environ.pop(_USE_CPU, None)
            if told is not None:
                os.environ[_USE_CPU] = told

    @contextlib.contextmanager
    def precise(self) -> Iterator[None]:
        """Compute float32 in full precision, and reproducibly.

        By default cuDNN rounds the inputs of float32 convolutions to TF32, of 10 bits, and picks its algorithm by
        timing: enough to change a metric.
        """
        cudnn = torch.backends.cudnn
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def choose(device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Compute:
    """What was asked, checked; each choice is logged once.

    Args:
        device: cpu, cuda, cuda:N or mps; `auto` is a GPU that torch can use (CUDA or ROCm before Apple's), else the
            CPU.
        dtype: fp32, bf16 or fp16. `auto` is fp32 everywhere: half precision changes what is measured (bf16 has 8 bits),
            and numbers of two devices have to be comparable.

    Raises:
        SettingsError: an unknown name, or this machine has no such device or format; says what to use instead.
    """
    compute = Compute(choose_device(device), _choose_dtype(dtype))
    if compute.dtype == torch.bfloat16 and not _has_bf16(compute.device):
        raise SettingsError(f"dtype: bf16 isn't supported by {describe(compute.device)}; use fp32 or fp16")
    if compute.device.type == "cpu":
        fit_threads()
    _say(str(compute))
    return compute


def choose_device(asked: str | torch.device = "auto") -> torch.device:
    """The device of `choose`; errors alike."""
    name = str(asked)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"device: {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        why = "it is Apple's GPU" if not torch.backends.mps.is_built() else "macOS 14 or later has to run on it"
        raise SettingsError(f"device: mps isn't available ({why}); use auto or cpu")
    elif device.type != "cuda" and device.index:
        raise SettingsError(f"device: {name} isn't available, only {device.type}; use {device.type}")
    return device


def _check_cuda(device: torch.device) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        if built:
            why = "torch finds no GPU; see `nvidia-smi`, the driver and CUDA_VISIBLE_DEVICES"
        else:
            why = f"torch {torch.__version__} was built without CUDA; https://pytorch.org/get-started has others"
        raise SettingsError(f"device: {device} isn't available ({why}); use auto or cpu")
    if (device.index or 0) >= count:
        there = "only cuda:0" if count == 1 else f"only cuda:0 to cuda:{count - 1}"
        raise SettingsError(f"device: {device} isn't available, {there}; choose one of them")


def _choose_dtype(asked: str | torch.dtype) -> torch.dtype:
    if isinstance(asked, torch.dtype) and asked in DTYPES.values():
        return asked
    if asked == "auto":
        return torch.float32
    if asked not in DTYPES:
        raise SettingsError(f"dtype: {asked} is unknown; use auto, {', '.join(DTYPES)}")
    return DTYPES[str(asked)]


def _has_bf16(device: torch.device) -> bool:
    """Whether torch computes in bf16 there, be it emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def launched() -> bool:
    """Whether a launcher, such as `accelerate launch` or torchrun, started this process as one of several."""
    return process_count() > 1


@cache
def fit_threads() -> None:
    """Torch's threads are no more than this process's part of the cores, unless OMP_NUM_THREADS is set.

    Threads without a core of their own wait for each other at every sum, so that a few cost a factor of ten. What is
    set, and what other processes use, is said and not followed: it is a choice, or changes, and the number of threads
    changes the last bits of a run.
    """
    asked, processes = os.environ.get("OMP_NUM_THREADS"), local_process_count()
    cores, threads = usable_cores(processes=processes), torch.get_num_threads()
    fitting = max(1, int(cores))
    if not asked and threads > fitting:
        torch.set_num_threads(fitting)
        logger.info("threads: %d, not %d: this process may use %.3g cores", fitting, threads, cores)
    elif threads > fitting:
        said = f"OMP_NUM_THREADS={asked}, and this process may use {cores:.3g} cores: threads {_WAIT}"
        logger.warning("threads: %s; OMP_NUM_THREADS=%d gives each a core", said, fitting)
        return
    elif asked == "1" and fitting > 1 and (option := _launcher_option(processes)):
        logger.info("threads: 1, as launched, of %.3g cores a process; %s=%d uses them", cores, option, fitting)
    threads = torch.get_num_threads()
    # One can't wait for another, and processes of the same launch would be taken for others.
    if threads > 1 and processes == 1 and (crowded := _crowded(busy_cores(), threads, os.cpu_count() or 1)):
        logger.warning("threads: %s", crowded)


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Torch computes in so many CPU threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _launcher_option(processes: int) -> str | None:
    """What chooses the threads where a launcher sets 1 if nobody asked; None without one."""
    if "ACCELERATE_DYNAMO_BACKEND" in os.environ:
        return "--num_cpu_threads_per_process"
    return "OMP_NUM_THREADS" if "TORCHELASTIC_RUN_ID" in os.environ and processes > 1 else None


def _crowded(busy: float, threads: int, cores: int) -> str | None:
    """What threads meet beside `busy` cores of so many; None where nearly each has a core."""
    slack = max(0.35, 0.1 * cores)
    if threads == 1 or busy + threads <= cores + slack:
        return None
    free = max(1, int(cores - busy + slack))
    return (
        f"other processes use {busy:.1f} of {cores} cores and torch begins {threads} threads, which then {_WAIT}; "
        f"OMP_NUM_THREADS={free} gives each a core"
    )


@cache
def _say(choice: str) -> None:
    logger.info("computing on %s", choice)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed what layers draw from, on the CPU and on the device: `torch.manual_seed` looks for every kind of device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        # Of the current one, which a launcher makes the process's own.
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def return_free_memory() -> None:
    """To the system, where glibc keeps what was freed: on the CPU a process holds what its tensors need, no more."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def device_name(device: torch.device) -> str:
    """The card's name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB"
    if device.type == "mps":
        return "Apple's GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
