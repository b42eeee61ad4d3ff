"""NaN and infinity in what networks give, found where they arise: as pixels they would be black or white."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hfgen.errors import ModelError


class NonFinite(ModelError):
    """A network gave NaN or infinity.

    Attributes:
        part: The first module that did, such as `vae.decoder.conv_in`.
        reason: Why, as far as it shows, and what helps.
        what: What an image of the batch is called.
        number: Of the first one, from 0.
    """

    def __init__(self, part: str, reason: str, what: str, number: int) -> None:
        super().__init__(f"model: {part} gives NaN or infinity, first for {what} {number}; {reason}")
        self.part, self.reason, self.what, self.number = part, reason, what, number

    def __reduce__(self) -> Any:
        """It may come from another process."""
        return type(self), (self.part, self.reason, self.what, self.number)


@contextlib.contextmanager
def counted(what: str, first: int) -> Iterator[None]:
    """Give the images of a batch, in a `NonFinite`, the numbers from `first` on, and their name."""
    try:
        yield
    except NonFinite as error:
        raise NonFinite(error.part, error.reason, what, first + error.number) from None


@contextlib.contextmanager
def finite_outputs(pipeline: Any) -> Iterator[None]:
    """Within, a network of the pipeline whose output is non-finite raises `NonFinite`.

    Looked at are the networks and their direct parts (encoder, decoder, ...), which costs next to nothing; only where
    one fails is it run again, module by module.
    """
    networks = dict(_networks(pipeline))
    handles = []
    for name, network in networks.items():
        for path, module in [(name, network), *((f"{name}.{part}", child) for part, child in network.named_children())]:
            handles.append(module.register_forward_hook(_check(path, networks), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_images(images: Tensor) -> None:
    """Refuse images (N, C, H, W) with NaN or infinity, whatever made them.

    Raises:
        NonFinite: there are some.
    """
    if not images.isfinite().all():
        raise NonFinite("the model", _REASONS["unknown"], "image", _first_row(images))


def _networks(pipeline: Any) -> Iterator[tuple[str, nn.Module]]:
    for name in getattr(pipeline, "component_names", ()):
        part = getattr(pipeline, name)
        if isinstance(part, nn.Module):
            yield name, part


_REASONS = {
    "weights": "its weights do too: the file is damaged or the training diverged; take an earlier checkpoint",
    "half": "float16 has no larger numbers than 65,504; use --dtype fp32 or bf16",
    "unknown": "the training may have diverged; take an earlier checkpoint",
}


def _check(path: str, networks: Mapping[str, nn.Module]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        wrong = _non_finite(output)
        if wrong is None:
            return
        part, source = path, module
        if _non_finite((inputs, options)) is not None:
            # It came from something that has no output to look at, such as a fitted prior's draws.
            part, source = _with_such_weights(networks) or (f"what {path} is given", module)
        else:
            name, source = _first_inside(module, inputs, options) or ("", module)
            part = f"{path}.{name}".rstrip(".")
        raise NonFinite(part, _reason(source), "image", _first_row(wrong))

    return hook


def _first_inside(module: nn.Module, inputs: Any, options: Any) -> tuple[str, nn.Module] | None:
    """The first of the modules without parts whose output is non-finite, in the order in which they are run."""
    found: list[tuple[str, nn.Module]] = []
    handles = [
        part.register_forward_hook(
            lambda part, _, output, name=name: (
                found.append((name, part)) if not found and _non_finite(output) is not None else None
            )
        )
        for name, part in module.named_modules()
        if name and not list(part.children())
    ]
    try:
        module.forward(*inputs, **options)
    except Exception:  # A second run may not be possible; the part's own name is known.
        return found[0] if found else None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _with_such_weights(networks: Mapping[str, nn.Module]) -> tuple[str, nn.Module] | None:
    for name, network in networks.items():
        for path, module in network.named_modules():
            if _has_such_weights(module):
                return f"{name}.{path}".rstrip("."), module
    return None


def _has_such_weights(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(not tensor.isfinite().all() for tensor in own)


def _reason(module: nn.Module) -> str:
    if any(map(_has_such_weights, module.modules())):
        return _REASONS["weights"]
    half = any(parameter.dtype == torch.float16 for parameter in module.parameters())
    return _REASONS["half" if half else "unknown"]


def _non_finite(value: Any) -> Tensor | None:
    """The first tensor of floats, in what a module takes or gives, that holds NaN or infinity."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() and not value.isfinite().all() else None
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    if isinstance(value, (tuple, list)):
        return next((found for part in value if (found := _non_finite(part)) is not None), None)
    return None


def _first_row(values: Tensor) -> int:
    rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    return int((~rows.isfinite()).any(1).nonzero()[0])
