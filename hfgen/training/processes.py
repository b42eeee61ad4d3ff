"""What the processes of a run tell each other: the main one decides, and the others follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from hfgen.errors import DataError, UserError
from hfgen.training.fsdp import is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
State = Mapping[str, Mapping[str, Tensor]]


def decide(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What `work` gives in the main process, in every process; plain values, for they are pickled on the way.

    Raises:
        UserError: the main process raised it; so do all.
    """
    if accelerator.num_processes == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    outcome: list[tuple[T | None, UserError | None]] = [(None, None)]
    if accelerator.is_main_process:
        try:
            outcome = [(work(), None)]
        except UserError as error:
            outcome = [(None, error)]
    broadcast_object_list(outcome)
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]


def send_state(accelerator: Accelerator, state: State | None) -> State:
    """The main process's named tensors, on every process's CPU; the others give None."""
    if accelerator.num_processes == 1:
        assert state is not None
        return state
    layout = decide(
        accelerator,
        lambda: {
            name: {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
            for name, tensors in (state or {}).items()
        },
    )
    received: dict[str, dict[str, Tensor]] = {}
    for name, tensors in layout.items():
        received[name] = {}
        for key, (shape, dtype) in tensors.items():
            if state is None:
                tensor = torch.empty(shape, dtype=dtype, device=accelerator.device)
            else:
                tensor = state[name][key].to(accelerator.device).contiguous()
            torch.distributed.broadcast(tensor, 0)
            received[name][key] = tensor.cpu()
    return received


def send_networks(accelerator: Accelerator, networks: Mapping[str, nn.Module]) -> None:
    """Copy the main process's weights and buffers, except sharded ones, into every process's."""
    if accelerator.num_processes == 1:
        return
    for network in networks.values():
        for tensor in network.state_dict().values():
            if not is_sharded(tensor):
                torch.distributed.broadcast(tensor, 0)


def gather_values(accelerator: Accelerator, value: T) -> list[T]:
    """Every process's value, in their order; plain ones, for they are pickled on the way."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def check_alike(accelerator: Accelerator, value: str, fault: str) -> None:
    """Refuse to go on where `value` isn't the same in every process.

    Raises:
        DataError: it isn't; `fault` says what that means.
    """
    if len(set(gather_values(accelerator, value))) > 1:
        raise DataError(fault)


@torch.compiler.disable
def join(tensor: Tensor) -> tuple[Tensor, slice]:
    """Each process's tensor (n, ...), joined over the processes in their order, and where this one's lies in it.

    Gradients flow back to the process that they belong to; so do those of a gradient penalty.
    """
    rank = torch.distributed.get_rank()
    return _Join.apply(tensor), slice(rank * len(tensor), (rank + 1) * len(tensor))


# Each is the other's adjoint, so that backward passes can be differentiated again. torch.distributed.nn has the same,
# deprecated.
class _Join(torch.autograd.Function):
    """A tensor (n, ...) in each process -> all of them (N, ...) in every process."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumPart.apply(gradients[0])


class _SumPart(torch.autograd.Function):
    """A tensor (N, ...) in each process -> this process's part (n, ...) of their sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Join.apply(gradients[0])
