"""LPIPS and DISTS by torchmetrics, where it and its networks' weights can be had; else a note says why not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from hfgen.errors import HubError
from hfgen.extras import install_command
from hfgen.images import to_float
from hfgen.metrics.collector import Collector
from hfgen.metrics.placement import back, moved

_PIXELS = 2**20
_MODULES = {
    "lpips": ("torchmetrics.functional.image.lpips", "_NoTrainLpips", {"net": "alex"}),
    "dists": ("torchmetrics.functional.image.dists", "DISTSNetwork", {}),
}


def learned_distances(real: Tensor, reconstruction: Tensor, found: Collector) -> dict[str, Callable[[], Tensor]]:
    """What measures uint8 pairs (N, C, H, W), by name: `lpips` (AlexNet, Zhang 2018), `dists` (VGG, Ding 2020); (N,).

    Grey images become RGB. Both are at least 0, lower is nearer. The first use of each downloads the weights of its
    network, as torchvision does. Where a package is missing, `found` gets a note instead.

    Raises, when it measures:
        HubError: the weights can't be downloaded.
    """
    missing = [name for name in ("torchmetrics", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(_MODULES)
        found.note(f"{names}: left out ({missing[0]} isn't installed; {install_command('perceptual')})", of=names)
        return {}
    return {name: partial(_measure, name, real, reconstruction) for name in _MODULES}


@torch.no_grad()
def _measure(name: str, real: Tensor, reconstruction: Tensor) -> Tensor:
    network = _network(name)
    batch = max(1, _PIXELS // real[0, 0].numel())
    parts = []
    for pair in zip(real.split(batch), reconstruction.split(batch), strict=True):
        x, r = (moved(images).expand(-1, 3, -1, -1) for images in pair)
        network = network.to(x.device)
        parts.append(back(_distance(name, network, x, r).double()))
    return torch.cat(parts)


def _distance(name: str, network: Any, x: Tensor, r: Tensor) -> Tensor:
    """One number a pair, of uint8 images."""
    if name == "lpips":
        return network(to_float(x), to_float(r)).flatten()
    return network(x.float() / 255, r.float() / 255).flatten()


@lru_cache(maxsize=2)
def _network(name: str) -> Any:
    module, cls, options = _MODULES[name]
    try:
        return getattr(importlib.import_module(module), cls)(**options).eval()
    except OSError as error:
        raise HubError(f"its network's weights can't be downloaded ({error}); connect once, they are kept") from None
