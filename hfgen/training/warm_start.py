"""What a run begins with, where it isn't random: a published model's networks, and what frozen ones learn ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from hfgen.data import ImageStore
from hfgen.errors import ModelError
from hfgen.pipelines import AutoencoderPipeline, load
from hfgen.training.phases import Phase
from hfgen.training.processes import send_networks

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfgen.training.config import RunConfig


def build_networks(config: RunConfig, store: ImageStore) -> dict[str, nn.Module]:
    """The networks of a run before its first step: random ones, or around that of the model that it starts from."""
    model = config.model
    if model.trains_its_start:
        return model.build_from(load(config.start_from), config.resolution, store.channels)
    return model.build(config.resolution, store.channels, store.classes)


def start_from(model: str, networks: Mapping[str, nn.Module]) -> None:
    """Load the networks that a published model and this run have in common.

    Raises:
        ModelError: there are none, or one is built otherwise.
    """
    pipeline = load(model)
    # What has no weights isn't learnt but fitted, and will be again.
    learnt = {name: part for name in pipeline.component_names if has_weights(part := getattr(pipeline, name))}
    if isinstance(pipeline, AutoencoderPipeline):
        # A bare network is called by no family's name: its class tells which one it is.
        learnt = {
            name: pipeline.autoencoder for name, net in networks.items() if type(net) is type(pipeline.autoencoder)
        }
    common = {name: part for name, part in learnt.items() if name in networks and has_weights(networks[name])}
    if not common:
        raise ModelError(f"start_from: {model} is a {pipeline.family}, with no network that this run trains")
    for name, part in common.items():
        try:
            networks[name].load_state_dict(part.state_dict(), strict=True)
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise ModelError(f"start_from: {name} of {model} is built otherwise ({text}); set model.* alike") from None
        copy_latent_statistics(part, networks[name])


def copy_latent_statistics(source: Any, network: Any) -> None:
    """What a config says of the latents goes with the weights: no setting built it."""
    names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
    if hasattr(network, "register_to_config"):
        network.register_to_config(**{name: source.config[name] for name in names if name in source.config})


def has_weights(part: Any) -> bool:
    """Whether a pipeline's part is a network with parameters, trained or frozen."""
    return isinstance(part, nn.Module) and next(part.parameters(), None) is not None


def learn_ahead(
    phases: Iterable[Phase],
    networks: Mapping[str, nn.Module],
    averages: Mapping[str, nn.Module],
    store: ImageStore,
    accelerator: Accelerator,
) -> None:
    """Let the main process learn what frozen networks learn before the first step, and send it to the others."""
    hooks = [phase.start for phase in phases if phase.start is not None]
    if not hooks:
        return
    for hook in hooks if accelerator.is_main_process else ():
        hook(networks, store)
    send_networks(accelerator, networks)
    for name, network in networks.items():
        averages[name].load_state_dict(network.state_dict())
