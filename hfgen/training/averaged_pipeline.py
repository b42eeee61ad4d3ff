"""What a run would publish now: its averaged networks as the family's pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hfgen.data import batch_indices
from hfgen.images import to_float
from hfgen.training import checkpoints, fsdp
from hfgen.training.trainer import Trainer
from hfgen.training.warm_start import build_networks, copy_latent_statistics, has_weights


def averaged_pipeline(trainer: Trainer) -> Any:
    """The pipeline; None except in the main process; all processes must call it together."""
    averages = _full_averages(trainer)
    if not trainer.accelerator.is_main_process:
        return None
    # The GPU that it computes on, not all there are.
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), trainer.autocast():
        for phase in trainer.phases:
            if phase.fit is not None:
                phase.fit(averages, partial(first_images, trainer))
    return trainer.config.model.pipeline(averages)


def first_images(trainer: Trainer, count: int) -> Iterator[Tensor]:
    """The first `count` images that the run sees, in batches (b, C, R, R) in [-1, 1]."""
    store = trainer.store
    for start in range(0, min(count, len(store)), 256):
        size = min(256, count - start, len(store) - start)
        indices = batch_indices(len(store), start, size, trainer.config.seed)
        yield to_float(store.gather(indices).to(trainer.device))


def _full_averages(trainer: Trainer) -> dict[str, nn.Module]:
    """The averages for the main process; FSDP's are gathered into new networks there, and {} elsewhere."""
    if trainer.fsdp is None:
        return trainer.averages
    config, store, main = trainer.config, trainer.store, trainer.accelerator.is_main_process
    tensors = {name: fsdp.full_tensors(net.state_dict(), keep=main) for name, net in trainer.averages.items()}
    if not main:
        return {}
    with torch.random.fork_rng(devices=[]):
        networks = build_networks(config, store)
    for name, network in networks.items():
        checkpoints.load_network(name, network.to(trainer.device).eval(), tensors[name])
        copy_latent_statistics(trainer.averages[name], network)
    # What has no weights isn't sharded: itself, so that what is fitted to it is saved with the averages.
    return {name: net if has_weights(net) else trainer.averages[name] for name, net in networks.items()}
