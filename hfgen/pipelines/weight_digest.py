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
from hfgen.hub.downloads import LocalFiles
from hfgen.pipelines.known import PIPELINES, class_name, component_names
from hfgen.pipelines.places import read_object
from hfgen.pipelines.schedulers import SCHEDULERS
from hfgen.pipelines.weights import has_variant, variant_of, weight_files

_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def digest_of_networks(networks: Iterable[nn.Module]) -> str:
    """Of all tensors by name, type, shape and numbers; tied ones count once, as in a file.

    Half precision counts as float32, as which it is loaded, and what `torch.compile` adds to names doesn't count.
    """
    return _digest(pair for network in networks for pair in _once(network))


def digest_of_folder(place: Path, variant: str | None = None) -> str:
    """Of the files that are loaded of a model, however its networks are split into files.

    Args:
        place: The folder of a network, or of a pipeline of hfgen with a folder a network; or the file.
        variant: Such as fp16: of a network that has such weights, they count; of others, the plain ones, or the only
            ones.

    Raises:
        ModelError: there are no weights, or a file is damaged.
    """
    files = [place] if place.is_file() else _files(place, variant)
    return _digest(pair for path in files for pair in _stored(path))


def is_of(document: Mapping[str, Any], place: Path) -> bool:
    """Whether a record or a diagnosis is of the weights of a model, in any variant, as far as it says of which it is.

    Raises:
        ModelError: there are no weights, or a file is damaged.
    """
    weights = document.get("model", {}).get("weights")
    if weights is None:
        return True
    names = {_SHARD.sub("", path.name) for folder in _folders(place) for path in folder.glob("*.safetensors")}
    variants = sorted({variant_of(name) or "" for name in names}) or [""]
    return any(weights == digest_of_folder(place, variant or None) for variant in variants)


def _folders(place: Path) -> list[Path]:
    """Of the networks of a pipeline of hfgen, or of another one's autoencoder; else the folder alone."""
    if not (place / "model_index.json").is_file():
        return [place]
    index = read_object(place / "model_index.json")
    if (name := class_name(index.get("_class_name"))) not in PIPELINES:
        return [place / "vae" if (place / "vae").is_dir() else place]
    parts = component_names(name, index)
    return [place / part for part in parts if class_name(index.get(part)) not in SCHEDULERS and (place / part).is_dir()]


def _files(place: Path, variant: str | None) -> list[Path]:
    found = []
    for folder in _folders(place):
        files = LocalFiles(folder)
        wanted = variant if variant is not None and has_variant(files, "", variant) else None
        found += [folder / name for name in weight_files(files, "", str(folder), wanted)[0]]
    return [path for path in found if path.suffix == ".safetensors"]


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
            yield name.replace("_orig_mod.", ""), value


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    rows = set()
    for name, tensor in tensors:
        value = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        rows.add(f"{name} {value.dtype} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
