"""A model that the caller holds, as a pipeline that can be measured; the caller's own stays as it was."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hfgen.autoencoders import Autoencoder, class_fits
from hfgen.devices import DTYPES, Compute, choose
from hfgen.errors import ModelError, SettingsError
from hfgen.pipelines.adjust import adjust
from hfgen.pipelines.autoencoder import AutoencoderPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import ImagePipeline


def is_given(model: Any) -> bool:
    """Whether a MODEL is a network or a pipeline itself, and no address."""
    return not isinstance(model, (str, Path))


def given_id(model: Any) -> str:
    """What a record calls it."""
    return f"{type(unwrapped(model)).__name__} (given as an object)" if is_given(model) else str(model)


def unwrapped(model: Any) -> Any:
    """The network that accelerate, DistributedDataParallel or torch.compile wrapped; others as they are."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None) if isinstance(model, nn.Module) else None
        model = inner if isinstance(inner, nn.Module) and class_fits(type(inner)) else model
    return model


def compute_for(model: Any, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Compute:
    """`hfgen.devices.choose`; of a given model, where and in what it is, since the caller's isn't moved.

    Raises:
        SettingsError: another device or dtype than a given model's is asked; see also `choose`.
        ModelError: what is given is no model.
    """
    if not is_given(model):
        return choose(device, dtype)
    weight = next((one for part in networks_of(model) for one in part.parameters() if one.is_floating_point()), None)
    if weight is None:
        raise ModelError(f"model: {type(model).__name__} has no weights; give an autoencoder or a pipeline that has")
    if weight.dtype not in DTYPES.values():
        raise SettingsError(f"dtype: {weight.dtype} of the model given isn't measured; use {', '.join(DTYPES)}")
    there = choose(weight.device, weight.dtype)
    asked = choose(weight.device if device == "auto" else device, weight.dtype if dtype == "auto" else dtype)
    for name in ("device", "dtype"):
        if (mine := getattr(there, name)) != (theirs := getattr(asked, name)) and not _same_card(mine, theirs):
            raise SettingsError(f"{name}: {theirs} asked, but the model given is {mine}; move it, or leave {name} out")
    return there


def _same_card(mine: Any, theirs: Any) -> bool:
    """Whether cuda and cuda:0, say, are meant."""
    if not isinstance(mine, torch.device) or mine.type != theirs.type or mine.type != "cuda":
        return False
    current = torch.cuda.current_device()
    return (mine.index if mine.index is not None else current) == (
        theirs.index if theirs.index is not None else current
    )


def networks_of(model: Any) -> list[nn.Module]:
    """The networks of a pipeline; of an autoencoder, it."""
    if isinstance(model, nn.Module):
        return [model]
    parts = getattr(model, "components", {})
    return [part for part in parts.values() if isinstance(part, nn.Module)]


@contextlib.contextmanager
def lent(
    model: Any, *, resolution: int | None = None, tile: int | None = None, steps: int | None = None
) -> Iterator[ImagePipeline]:
    """A pipeline of the model's own networks, in evaluation mode; settings are those of `hfgen.load`.

    Afterwards the networks are in their own mode again, torch's global generators are where they were, and the size,
    the tiles and the steps of a given pipeline are its own.

    Raises:
        ModelError: it is no autoencoder or pipeline that hfgen measures.
        SettingsError: a setting that the model can't have.
    """
    with as_it_was(networks_of(model)):
        pipeline = _pipeline(model)
        adjust(pipeline, given_id(model), resolution, tile, steps)
        pipeline.set_progress_bar_config(disable=True)
        yield pipeline


@contextlib.contextmanager
def as_it_was(networks: list[nn.Module], *devices: torch.device) -> Iterator[None]:
    """Within, networks are in evaluation mode; then in their own again, and torch's generators where they were.

    Those of the CPU, of the networks' GPUs and of `devices`.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    there = {*devices, *(weight.device for network in networks for weight in network.parameters())}
    with torch.random.fork_rng(devices=sorted((one for one in there if one.type == "cuda"), key=str)):
        try:
            for network in networks:
                network.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def _pipeline(model: Any) -> ImagePipeline:
    model = unwrapped(model)
    if isinstance(model, ImagePipeline):
        own = copy.copy(model)
        if isinstance(own, AutoencoderPipeline):
            own.codec, tile = Autoencoder(own.autoencoder), own.codec.tile
            own.codec.tile = tile
        return own
    if isinstance(model, nn.Module) and class_fits(type(model)):
        return AutoencoderPipeline(model)
    parts = getattr(model, "components", {})
    there = {name: part for name, part in parts.items() if isinstance(part, nn.Module) and class_fits(type(part))}
    if "vae" in there:
        return AutoencoderPipeline(there["vae"])
    if len(there) == 1:
        return AutoencoderPipeline(next(iter(there.values())))
    has = f"has several autoencoders ({', '.join(there)}); give one of them" if there else "is no autoencoder"
    remedy = "" if there else "; give a diffusers autoencoder, a pipeline that has one, a pipeline of hfgen or a MODEL"
    raise ModelError(f"model: {type(model).__name__} {has}{remedy}")


def weights_state(model: Any) -> str:
    """A hash of a given model's weights."""
    digest = hashlib.sha256()
    for network in networks_of(model):
        for name, value in network.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
