"""Where metrics compute: on the device of what they are given, or for a while on another, such as a GPU beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from hfgen.devices import Compute, return_free_memory

# Numbers of images whose temporaries take some hundred megabytes.
_MANY = 2**23
_ON_GPU = 2**23
_device: ContextVar[torch.device | None] = ContextVar("device", default=None)

Share = Callable[[Any, Sequence[Tensor]], list[Tensor]]
"""(an extractor, batches of images) -> the features of each batch, in their order."""

_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def sharing_features(share: Share) -> Iterator[None]:
    """Within, extractors hand the batches of their images to `share`, which may compute them in several processes."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def features_of_batches(extractor: Any, batches: Sequence[Tensor]) -> Tensor:
    """Features (N, D) of batches of images, by `extractor.batch_features` here, or shared: see `sharing_features`."""
    share = _share.get()
    if share is None or len(batches) == 1:
        return torch.cat([extractor.batch_features(batch) for batch in batches])
    return torch.cat(share(extractor, batches))


@contextlib.contextmanager
def measuring(compute: Compute) -> Iterator[None]:
    """Within, networks compute float32 precisely, and metrics where the model runs, if there is float64."""
    with compute.precise(), computing_on(compute.exact):
        yield


@contextlib.contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Within, metrics move images batch by batch, and features, to a device with float64; results are on the CPU.

    A GPU for data centres multiplies float64 a hundred times faster than a few CPU cores, a small one still as fast.
    """
    token = _device.set(device)
    try:
        yield
    finally:
        _device.reset(token)


def moved(values: Tensor) -> Tensor:
    """The values where metrics compute."""
    device = _device.get()
    return values if device is None else values.to(device)


def back(values: Tensor) -> Tensor:
    """The values that a metric of `moved` ones returns: on the CPU within `computing_on`."""
    return values if _device.get() is None else values.cpu()


def at_once(images: Tensor, numbers: int) -> int:
    """How many images (N, ...) a metric takes at once: of about so many numbers, which a core's cache holds, on a CPU.

    A GPU waits for the call of each kernel, so more there. At least two: torch sums one alone in an order that depends
    on its threads.
    """
    device = _device.get() or images.device
    return max(2, (numbers if device.type == "cpu" else _ON_GPU) // images[0].numel())


def in_parts(count: int, *sets: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """`count` rows at a time of sets of one length; memory doesn't grow with their number.

    The few numbers that are kept of each large part lie between what it freed, where the next one doesn't fit any
    more: glibc's heap would grow by megabytes an image. So now and then it gives back what is free.
    """
    seen = 0
    for rows in zip(*(values.split(count) for values in sets), strict=True):
        yield rows
        seen += rows[0].numel()
        if seen >= _MANY:
            return_free_memory()
            seen = 0
