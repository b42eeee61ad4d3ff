"""A hash of a model's weights, the same for its folder, for a copy of it elsewhere, and for what is loaded from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from hfgen.errors import ModelError
from hfgen.files import visible_files


def digest_of_networks(networks: Iterable[nn.Module]) -> str:
    """Of all tensors by name, type, shape and numbers; tied ones count once, as in a file."""
    return _digest(pair for network in networks for pair in _once(network))


def digest_of_folder(place: Path) -> str:
    """Of all safetensors files below a folder, or of one file; how they are split into files is left out.

    Raises:
        ModelError: a file is damaged.
    """
    files = [place] if place.is_file() else [path for path in visible_files(place) if path.suffix == ".safetensors"]
    return _digest(pair for path in files for pair in _stored(path))


def _stored(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} can't be loaded: {' '.join(str(error).split())}; get the file again") from None


def _once(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[tuple[int, torch.Size]] = set()
    for name, value in network.state_dict().items():
        key = (value.data_ptr(), value.shape)
        if key not in seen or not value.numel():
            seen.add(key)
            yield name, value


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    rows = set()
    for name, value in tensors:
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        rows.add(f"{name} {value.dtype} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
