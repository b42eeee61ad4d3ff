"""Checkpoints: `pretrained/` to publish and `training_state/` to resume exactly; checked before they are used."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from hfgen.bars import without_bars
from hfgen.errors import ModelError, SettingsError, UserError
from hfgen.files import atomic_folder, read_json, remove_folder, remove_leftovers, sha256, write_json
from hfgen.training.fsdp import shard_like

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

logger = logging.getLogger("hfgen")


def save_checkpoint(
    folder: Path, pipeline: DiffusionPipeline, state: Mapping[str, Mapping[str, Tensor]], images_seen: int
) -> None:
    """Write `folder`/pretrained and `folder`/training_state completely, or not at all.

    Checkpoints ahead of it are removed: a run that writes this one has passed them over as damaged.
    """
    with atomic_folder(folder) as temporary:
        training = temporary / "training_state"
        training.mkdir()
        try:
            with without_bars("transformers"):
                pipeline.save_pretrained(temporary / "pretrained")
            for name, tensors in state.items():
                # Clones, since tied weights share memory, which safetensors refuses.
                copies = {key: t.detach().clone(memory_format=torch.contiguous_format) for key, t in tensors.items()}
                save_file(copies, training / f"{name}.safetensors")
        except SafetensorError as error:
            if "os error 28" not in str(error):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        digests = {path.relative_to(temporary).as_posix(): sha256(path) for path in files}
        write_json(training / "state.json", {"images_seen": images_seen, "sha256": digests})
    for other in checkpoint_folders(folder.parent):
        if other.name > folder.name:
            remove_folder(other)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """Read (images seen, state) back.

    Raises:
        ModelError: a file is missing or differs from its checksum; the message names it.
    """
    record = _read_record(folder)
    for name, digest in record["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing")
        if sha256(path) != digest:
            raise ModelError(f"{path} is damaged: its checksum differs from the one it was saved with")
    try:
        state = {path.stem: load_file(path) for path in sorted((folder / "training_state").glob("*.safetensors"))}
    except SafetensorError as error:
        raise ModelError(f"{folder} is damaged: {error}") from None
    return record["images_seen"], state


def _read_record(folder: Path) -> dict[str, Any]:
    """state.json, which no checksum guards: its form and the folder's name do.

    Raises:
        ModelError: it isn't what `save_checkpoint` wrote.
    """
    path = folder / "training_state" / "state.json"
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), dict):
        raise ModelError(f"{path} is damaged: it lists no checksums")
    images = record.get("images_seen")
    if not isinstance(images, int) or f"{images:012d}" != folder.name:
        raise ModelError(f"{path} is damaged: its images_seen, {images!r}, isn't its folder's name")
    return record


def newest_checkpoint(parent: Path) -> tuple[int, dict[str, dict[str, Tensor]]] | None:
    """The newest checkpoint below `parent` that is complete; damaged ones are named in a warning and passed over."""
    folders = checkpoint_folders(parent)
    for folder in reversed(folders):
        try:
            return load_checkpoint(folder)
        except UserError as error:
            logger.warning("checkpoint %s is not used: %s", folder.name, error)
    if folders:
        logger.warning("no checkpoint in %s is complete: the run starts again from image 0", parent)
    return None


def checkpoint_folders(parent: Path) -> list[Path]:
    """The checkpoints below `parent`, oldest first; leftovers of a save that was cut off aren't among them."""
    return sorted(path for path in parent.glob("[0-9]*") if (path / "training_state").is_dir())


def drop_old(parent: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what killed saves left behind."""
    for folder in checkpoint_folders(parent)[:-keep]:
        remove_folder(folder)
    remove_leftovers(parent)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's per-parameter state as named tensors: `<parameter's index>.<key>`.

    Learning rates and the like aren't among them: they follow from the config and the clock.
    """
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put `optimizer_tensors` back."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    like = {name: parameters[int(name.split(".", 1)[0])] for name in tensors}
    for name, value in shard_like(tensors, like).items():
        index, key = name.split(".", 1)
        if value.shape == like[name].shape:
            # In its parameter's memory format: fused AdamW pairs the two by address.
            value = torch.empty_like(like[name]).copy_(value)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_network(name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load strictly.

    Raises:
        SettingsError: keys or shapes differ; they are named.
    """
    try:
        network.load_state_dict(shard_like(tensors, network.state_dict()), strict=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise SettingsError(f"checkpoint of {name} doesn't fit this run: {text}; choose another --out") from None
