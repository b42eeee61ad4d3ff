"""A device that this machine lacks, played by the CPU: its tensors say `cuda` or `mps`, and mix with no others.

Each of its tensors wraps one of the CPU, which does the arithmetic, so that results are those of the CPU bit for bit
and control flow that looks at values works. To torch's own code it says `meta`, whose gradients need no hardware.

Refused as the real device would: an operation on tensors of both devices (but for scalars of the CPU beside
elementwise operations, and indices of the CPU into the device), `numpy()`, and on `mps` whatever is float64.

What it doesn't show: kernels that a real device lacks, its rounding, streams and memory.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
_META = torch.device("meta")
_GENERATOR = torch.Generator
_FROM_VALUES = (torch.tensor, torch.as_tensor, torch.asarray)
# Between devices, or of indices that may be on the CPU.
_COPIES = (aten.copy_.default, aten._to_copy.default)
_INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class Elsewhere(Tensor):
    """A tensor of the second device."""

    inner: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, place: torch.device) -> "Elsewhere":
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_META,
        )

    def __init__(self, inner: Tensor, place: torch.device) -> None:
        self.inner, self.place = inner, place

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function}: used outside `second_device`")

    @property
    def device(self) -> torch.device:
        return self.place

    is_cuda = property(lambda self: self.place.type == "cuda")
    is_mps = property(lambda self: self.place.type == "mps")
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner!r}, {self.place})"


class _Functions(TorchFunctionMode):
    """Python's side: the device's name becomes `meta` before torch's own code sees it."""

    def __init__(self, place: torch.device) -> None:
        super().__init__()
        self.place, self.asleep = place, False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.asleep or function is torch.device:
            return function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        if name == "to" and len(args) > 1 and isinstance(args[1], Elsewhere):
            args = (args[0], _META, args[1].dtype, *args[2:])
        if name == "new_tensor" and isinstance(args[0], Elsewhere):
            return torch.tensor(*args[1:], dtype=kwargs.get("dtype", args[0].dtype)).to(_META)
        args = tuple(map(self._renamed, args))
        kwargs = {key: self._renamed(value) for key, value in kwargs.items()}
        if function in _FROM_VALUES and kwargs.get("device") == _META:
            values = function(*args, **{key: value for key, value in kwargs.items() if key != "device"})
            return values if isinstance(values, Elsewhere) else Tensor.to(values, _META)
        return function(*args, **kwargs)

    def _renamed(self, value: Any) -> Any:
        named = isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] == self.place.type)
        return _META if named and torch.device(value).type == self.place.type else value


class _Operations(TorchDispatchMode):
    """Torch's side: what an operation is given, and what it gives."""

    def __init__(self, place: torch.device) -> None:
        super().__init__()
        self.place, self.asleep = place, False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
        wanted = kwargs.get("device")
        made_here = wanted == _META if wanted is not None else bool(ours)
        if self.asleep or not (ours or made_here):
            return function(*args, **kwargs)
        self._check(function, args, tensors)
        if wanted == _META:
            kwargs["device"] = torch.device("cpu")
        found = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if function is aten.copy_.default and not isinstance(args[0], Elsewhere):
            return args[0]
        if not made_here or not any(isinstance(value, Tensor) for value in tree_leaves(found)):
            return found
        wrapped = tree_map(lambda value: self._wrapped(function, value), found)
        return return_and_correct_aliasing(function, args, kwargs, wrapped)

    def _check(self, function: Any, args: Any, tensors: list[Tensor]) -> None:
        if function in _COPIES:
            return
        if function in _INDEXED:
            if not isinstance(args[0], Elsewhere):
                raise RuntimeError(f"{function}: indices should be either on cpu or on the same device as the tensor")
            tensors = [value for value in args[2:3] if isinstance(value, Tensor) and value.ndim]
        elementwise = torch.Tag.pointwise in function.tags
        if any(not isinstance(tensor, Elsewhere) and (tensor.ndim or not elementwise) for tensor in tensors):
            raise RuntimeError(
                f"{function}: Expected all tensors to be on the same device, but found at least two devices, "
                f"{self.place} and cpu!"
            )

    def _wrapped(self, function: Any, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if self.place.type == "mps" and value.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{function}: Cannot convert a MPS Tensor to float64 dtype; use float32 instead.")
        return Elsewhere(value, self.place)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


class _Kind(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _GENERATOR)


class _Generator(metaclass=_Kind):
    """`torch.Generator(device)`, whose numbers the CPU draws."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return _GENERATOR()


class Second:
    """The device, while it is there."""

    def __init__(self, place: torch.device, modes: tuple[_Functions, _Operations]) -> None:
        self.device, self._modes = place, modes

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Within, torch is as it was: for what uses `meta` itself, as loading does."""
        for mode in self._modes:
            mode.asleep = True
        try:
            yield
        finally:
            for mode in self._modes:
                mode.asleep = False


@contextlib.contextmanager
def second_device(name: str) -> Iterator[Second]:
    """Within, there is a device `cuda` or `mps`."""
    place = torch.device(name)
    functions, operations = _Functions(place), _Operations(place)
    torch.Generator = _Generator  # type: ignore[assignment, misc]
    # As on a real device, a weight that two modules share stays one when they are moved; of another class of tensors,
    # torch would make one for each.
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with functions, operations:
            yield Second(place, (functions, operations))
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
        torch.Generator = _GENERATOR  # type: ignore[misc]
