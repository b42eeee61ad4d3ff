"""FSDP2: each process keeps a shard of the weights, and of their gradients, moments and averages.

`accelerate launch --use_fsdp --fsdp_version 2` chooses it. On CPUs, where Accelerate's own state says MULTI_CPU, the
variables that its launcher sets count all the same. Checkpoints hold full tensors, as without FSDP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from hfgen.training.launcher import fsdp_asked
from hfgen.training.phases import Loss, Networks, Phase, Step


def asked() -> bool:
    """Whether the launcher asked for FSDP, and there are processes that it could shard over."""
    return fsdp_asked() and torch.distributed.is_available() and torch.distributed.is_initialized()


class FSDPRoot(nn.Module):
    """Networks and averages under one root, which every phase runs in: FSDP2 knows one root a module.

    What a ModuleList or Sequential holds is gathered while it computes; what lies between is gathered for the whole
    phase, so that losses may call `encode` and `decode`. Two kinds of weights stay unsharded in every process: those
    that `build` froze, which have no moments and which `Phase.after` may write, and those of phases that say so.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], averages: Mapping[str, nn.Module], phases: Iterable[Phase], device: str
    ) -> None:
        super().__init__()
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.networks = networks
        self.registered = nn.ModuleList([*networks.values(), *averages.values()])
        # FSDP2 refuses weights in channels_last.
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        unsharded = {name for phase in phases if phase.unsharded for name in phase.trains}
        kept: set[nn.Parameter] = set()
        for name, network in networks.items():
            for pair in zip(network.parameters(), averages[name].parameters(), strict=True):
                kept.update(pair if name in unsharded or not pair[0].requires_grad else ())
        mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
        for block in _blocks(self):
            if any(not is_sharded(parameter) for parameter in set(block.parameters()) - kept):
                fully_shard(block, mesh=mesh, ignored_params=kept)
        fully_shard(self, mesh=mesh, ignored_params=kept)

    def forward(self, loss: Callable[[Networks, Step], Loss], step: Step) -> Loss:
        """A phase's loss."""
        return loss(self.networks, step)


def _blocks(root: nn.Module) -> Iterator[nn.Module]:
    """The items of every ModuleList and Sequential inside the networks, inner ones first."""
    for module in reversed(list(root.modules())):
        if isinstance(module, nn.ModuleList | nn.Sequential) and module is not root.registered:
            yield from module.children()


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, told by its method: not every build of torch has torch.distributed."""
    return hasattr(tensor, "full_tensor")


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average over the processes the gradients of unsharded weights; FSDP2 did the others."""
    for parameter in parameters:
        if parameter.grad is not None and not is_sharded(parameter):
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


def full(tensor: Tensor) -> Tensor:
    """The tensor with every process's shard; all processes must call it together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies in this process; the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def full_tensors(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """`full` tensors on the CPU, one after another; none where this process doesn't `keep` them."""
    gathered = ((name, full(tensor.detach())) for name, tensor in tensors.items())
    return {name: tensor.cpu() for name, tensor in gathered if keep}


def shard_like(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full tensors, which every process has, cut to this process's shard where `like` is sharded."""

    def cut(tensor: Tensor, model: Tensor) -> Tensor:
        if not is_sharded(model) or model.shape != tensor.shape:
            return tensor
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = model.device_mesh, model.placements  # type: ignore[attr-defined]
        # A clone: in some versions of torch the shard is a view, which keeps the full tensor's memory.
        return distribute_tensor(tensor.to(model.device), mesh, placements, src_data_rank=None).clone()

    return {name: cut(tensor, like.get(name, tensor)) for name, tensor in tensors.items()}
