"""A hash of a model's weights, the same for its folder, for a copy of it elsewhere, and for what is loaded from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hfgen.errors import ModelError
from hfgen.files import visible_files
from hfgen.pipelines.weights import STEMS

_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def digest_of_networks(networks: Iterable[nn.Module]) -> str:
    """Of all tensors by name, type, shape and numbers; tied ones count once, as in a file."""
    return _digest(pair for network in networks for pair in _once(network))


def digest_of_folder(place: Path, variant: str | None = None) -> str:
    """Of a model's safetensors files, however its networks are split into files.

    Args:
        place: The folder of a network, or of a pipeline with a folder a network, or the file. What lies deeper or is
            called otherwise, such as the extractor of an evaluation that was written there, isn't loaded.
        variant: Such as fp16: of a network that has such weights, they count; of others, the plain ones; and where
            there are none, all that there are.

    Raises:
        ModelError: a file is damaged.
    """
    files = [place] if place.is_file() else _files(place, variant)
    return _digest(pair for path in files for pair in _stored(path))


def is_of(document: Mapping[str, Any], folder: Path) -> bool:
    """Whether a record or a diagnosis is of the weights in a folder, as far as it says of which it is."""
    weights = document.get("model", {}).get("weights")
    return weights is None or weights == digest_of_folder(folder)


def _files(folder: Path, variant: str | None) -> list[Path]:
    networks: dict[tuple[Path, str], dict[str, list[Path]]] = {}
    for path in visible_files(folder):
        stem, _, which = _SHARD.sub("", path.stem).partition(".")
        if path.suffix == ".safetensors" and stem in STEMS and folder in (path.parent, path.parent.parent):
            networks.setdefault((path.parent, stem), {}).setdefault(which, []).append(path)
    return [path for there in networks.values() for path in _of_variant(there, variant)]


def _of_variant(there: dict[str, list[Path]], variant: str | None) -> list[Path]:
    wanted = next((which for which in (variant, "") if which in there), None)
    return [path for which, files in there.items() if wanted in (which, None) for path in files]


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
