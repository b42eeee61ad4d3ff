"""A model that the caller holds, as a pipeline that can be measured; the caller's own stays as it was."""

from __future__ import annotations

import contextlib
import copy
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hfgen.autoencoders import Autoencoder, class_fits
from hfgen.data.held import AS_OBJECT
from hfgen.data_options import BUILT_IN
from hfgen.devices import DTYPES, Compute, choose
from hfgen.errors import ModelError, SettingsError
from hfgen.files import folder_state
from hfgen.hub.downloads import commit_of
from hfgen.pipelines.adjust import adjust, whole_settings
from hfgen.pipelines.autoencoder import AutoencoderPipeline
from hfgen.pipelines.callables import CallablePipeline, Callables, check_size, find_callables
from hfgen.pipelines.hfgen_pipelines_v1 import ImagePipeline
from hfgen.pipelines.loading import open_model
from hfgen.pipelines.weight_digest import digest_of_folder, digest_of_networks

_TILES = ("use_tiling", "use_slicing", "tile_")


def is_given(model: Any) -> bool:
    """Whether a MODEL is a network, a pipeline or functions themselves, and no address."""
    return not isinstance(model, (str, Path))


def given_id(model: Any) -> str:
    """What a record calls it."""
    return f"{given_name(model)} {AS_OBJECT}" if is_given(model) else str(model)


def given_name(model: Any) -> str:
    """The class of what is given, or what its functions are called."""
    functions = find_callables(unwrapped(model))
    return functions.name if functions is not None else type(unwrapped(model)).__name__


def unwrapped(model: Any) -> Any:
    """The network that accelerate, DistributedDataParallel or torch.compile wrapped; others as they are."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None) if isinstance(model, nn.Module) else None
        model = inner if isinstance(inner, nn.Module) and class_fits(type(inner)) else model
    return model


def compute_for(model: Any, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> Compute:
    """`hfgen.devices.choose`; of given networks, where and in what they are, since the caller's aren't moved.

    Raises:
        SettingsError: another device or dtype than a given model's is asked; see also `choose`.
        ModelError: what is given is no model.
    """
    if not is_given(model):
        return choose(device, dtype)
    weight = next((one for part in networks_of(model) for one in part.parameters() if one.is_floating_point()), None)
    if weight is None and find_callables(unwrapped(model)) is not None:
        chosen = choose(device, dtype)
        if chosen.dtype != torch.float32:
            raise SettingsError(f"dtype: {dtype} asked, but functions get float32 images; leave it out")
        return chosen
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
    """The networks of a pipeline, or behind functions; of an autoencoder, it."""
    if isinstance(model, nn.Module):
        return [model]
    if (functions := find_callables(model)) is not None:
        return functions.networks
    parts = getattr(model, "components", {})
    return [part for part in parts.values() if isinstance(part, nn.Module)]


@dataclass(frozen=True)
class Origin:
    """What pins a model.

    Attributes:
        revision: Its commit, or None.
        state: A hash of its weights' place, or of the weights.
        folder: Where its weights lie; None of what is loaded.
        variant: Of the weights that were asked for.
        known: A hash of what is loaded; None of functions that aren't networks' own.
    """

    revision: str | None
    state: str
    folder: Path | None = None
    variant: str | None = None
    known: str | None = None

    def facts(self) -> dict[str, str]:
        """`weights`, a hash of them alone, for records; nothing of functions."""
        known = self.known if self.folder is None else digest_of_folder(self.folder, self.variant)
        return {} if known is None else {"weights": known}


def model_facts(model: Any, pipeline: ImagePipeline, origin: Origin) -> dict[str, Any]:
    """What a record says of a model."""
    return {
        "id": given_id(model),
        "revision": origin.revision,
        "family": pipeline.family,
        "parameters": pipeline.parameter_count,
        "codebook_size": pipeline.codebook_size,
        **origin.facts(),
    }


@contextlib.contextmanager
def opened(
    model: Any,
    compute: Compute,
    *,
    variant: str | None = None,
    resolution: int | None = None,
    tile: int | None = None,
    steps: int | None = None,
) -> Iterator[tuple[ImagePipeline, Origin]]:
    """A MODEL where it is to be computed, or what is given in its place where that is; see `lent` and `settle`.

    Raises:
        UserError: it can't be opened.
    """
    settings: dict[str, Any] = {"resolution": resolution, "tile": tile, "steps": steps}
    if is_given(model):
        if variant is not None:
            raise SettingsError(f"variant: {variant!r} is of files, and the model is loaded already; leave it out")
        with lent(model, compute, **settings) as pipeline:
            weights = _weights_of(model, pipeline)
            # Of functions, a text that never comes again.
            yield pipeline, Origin(None, weights or uuid.uuid4().hex, known=weights)
        return
    pipeline, folder = open_model(model, variant=variant, **settings)
    pipeline.set_progress_bar_config(disable=True)
    yield compute.place(pipeline), Origin(commit_of(folder), folder_state(folder), folder, variant)


def settle(pipeline: ImagePipeline, channels: int) -> None:
    """Tell functions how many channels the images have, which networks know by themselves.

    Raises:
        ModelError: the functions can't be called with such images.
    """
    if isinstance(pipeline, CallablePipeline):
        pipeline.settle(channels)


_KINDS = {1: "grey", 3: "RGB"}


def chosen_channels(
    pipeline: ImagePipeline, asked: int | Literal["auto"], data: object = None
) -> int | Literal["auto"]:
    """Of the images: what the model takes or, where it takes any, what was asked.

    Raises:
        SettingsError: others were asked for, or `data` are drawn with others.
    """
    own: int | Literal["auto"] = pipeline.channels
    if own == "auto":
        return asked
    if asked not in (own, "auto"):
        raise SettingsError(f"channels: {asked} asked, but the model's images have {own}; leave it out")
    drawn = BUILT_IN.get(data) if isinstance(data, str) else None
    if drawn is not None and drawn.channels != own:
        drawn_kind, own_kind = (_KINDS.get(count, str(count)) for count in (drawn.channels, own))
        raise SettingsError(f"data: {data} has {drawn_kind} images, and the model takes {own_kind} ones; name others")
    return own


def notes_of(pipeline: ImagePipeline) -> list[str]:
    """What was noticed of a caller's functions while they ran."""
    return pipeline.notes if isinstance(pipeline, CallablePipeline) else []


def has_networks(pipeline: ImagePipeline) -> bool:
    """Whether known networks compute, which can be copied and whose draws have a seed each; not with functions."""
    return not isinstance(pipeline, CallablePipeline)


@contextlib.contextmanager
def lent(
    model: Any,
    compute: Compute,
    *,
    resolution: int | None = None,
    tile: int | None = None,
    steps: int | None = None,
) -> Iterator[ImagePipeline]:
    """A pipeline of the model's own networks, in evaluation mode; settings are those of `hfgen.load`.

    Functions get their images where `compute` says, unless they are networks.

    Afterwards the networks are in their own mode again, torch's global generators are where they were, and the size,
    the tiles and the steps of a given pipeline are its own.

    Raises:
        ModelError: it is no autoencoder or pipeline that hfgen measures.
        SettingsError: a setting that the model can't have.
    """
    resolution, tile, steps = whole_settings(resolution, tile, steps)
    with as_it_was(networks_of(model), compute.device):
        pipeline = _pipeline(model, compute, resolution, tile)
        adjust(pipeline, given_id(model), resolution, tile, steps)
        pipeline.set_progress_bar_config(disable=True)
        yield pipeline


@contextlib.contextmanager
def as_it_was(networks: list[nn.Module], *devices: torch.device) -> Iterator[None]:
    """Within, networks are in evaluation mode; then in their own again, and torch's generators where they were.

    Those of the CPU, of the networks' GPUs and of `devices`. Tiles, too, are as they were.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    tiles = [{key: value for key, value in vars(one).items() if key.startswith(_TILES)} for one in networks]
    there = {*devices, *(weight.device for network in networks for weight in network.parameters())}
    with torch.random.fork_rng(devices=sorted((one for one in there if one.type == "cuda"), key=str)):
        try:
            for network in networks:
                network.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for network, settings in zip(networks, tiles, strict=True):
                vars(network).update(settings)


def _pipeline(model: Any, compute: Compute, resolution: int | None, tile: int | None) -> ImagePipeline:
    model = unwrapped(model)
    if (functions := find_callables(model)) is not None:
        if tile is not None:
            raise SettingsError(f"tile: {functions.name} consists of functions, which hfgen can't tile; leave it out")
        return CallablePipeline(functions, compute.device, check_size(functions, resolution))
    if isinstance(model, ImagePipeline):
        own = copy.copy(model)
        if isinstance(own, AutoencoderPipeline):
            own.codec, tile = Autoencoder(own.autoencoder), own.codec.tile
            own.codec.tile = tile
        return own
    if isinstance(model, nn.Module) and class_fits(type(model)):
        try:
            return AutoencoderPipeline(model)
        except ModelError:
            # Of another library: it may take its own size alone, or have latents without places.
            if resolution is None or hasattr(model, "config"):
                raise
        other: Any = model
        return CallablePipeline(Callables(encode=other.encode, decode=other.decode), compute.device, resolution)
    parts = getattr(model, "components", {})
    there = {name: part for name, part in parts.items() if isinstance(part, nn.Module) and class_fits(type(part))}
    if "vae" in there:
        return AutoencoderPipeline(there["vae"])
    if len(there) == 1:
        return AutoencoderPipeline(next(iter(there.values())))
    has = f"has several autoencoders ({', '.join(there)}); give one of them" if there else "is no autoencoder"
    known = "a diffusers autoencoder, a pipeline that has one, a pipeline of hfgen, a MODEL"
    remedy = "" if there else f"; give {known}, or functions: {{'reconstruct': f}}, {{'sample': f}}"
    raise ModelError(f"model: {type(model).__name__} {has}{remedy}")


def _weights_of(model: Any, pipeline: ImagePipeline) -> str | None:
    if not isinstance(pipeline, CallablePipeline):
        return digest_of_networks(networks_of(pipeline))
    functions = find_callables(unwrapped(model))
    return None if functions is not None and not functions.is_known else digest_of_networks(networks_of(model))
