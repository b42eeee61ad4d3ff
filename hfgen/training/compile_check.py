"""torch.compile, and whether its gradients are those of eager networks: Inductor's can be wrong without an error."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from hfgen.training.compiled_layers import leave_out, rewrite_layers


def compile_networks(
    networks: Mapping[str, nn.Module],
    mode: str,
    early: Iterable[Tensor],
    gradients: Callable[[str], dict[str, Tensor]],
) -> str | None:
    """Compile in place, child by child: losses call `encode` and `decode`, which a compiled whole would miss.

    Args:
        networks: What is compiled.
        mode: Of torch.compile.
        early: Weights whose gradient a loss asks for ahead of the update's.
        gradients: Mode, or off -> each phase's gradient, flat, by the phase's name.

    Returns:
        What is wrong with compilation or its gradients, in words, or None.
    """
    eager = gradients("off")
    # Else what another run of this process compiled makes sizes symbols, which are slower and fail on some networks.
    torch.compiler.reset()
    _watch_frozen_weights()
    leave_out(networks, early)
    for network in networks.values():
        rewrite_layers(network)
        for module in (network, *network.children()):
            module.compile(mode=mode)
    try:
        with warnings.catch_warnings():
            # Dynamo's remark on functions of diffusers that only compare versions.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            compiled = gradients(mode)
    # Dynamo, Inductor, Triton, a C++ compiler that isn't there: each has its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"torch.compile fails ({reason[:200]})"
    for name, gradient in compiled.items():
        fault = _fault(gradient, eager[name])
        if fault is not None:
            return f"torch.compile gives {name} a gradient that is {fault}"
    return None


def _watch_frozen_weights() -> None:
    """Let Dynamo look at `requires_grad` before each call of what it compiled.

    Phases freeze weights in place. With Python 3.12 or later it overlooks that by default where a network's other
    attributes are as they were, so that one that was first compiled frozen has no gradient.
    """
    import torch._dynamo.config as dynamo

    if hasattr(dynamo, "skip_tensor_guards_with_matching_dict_tags"):
        dynamo.skip_tensor_guards_with_matching_dict_tags = False


def _fault(gradient: Tensor, eager: Tensor) -> str | None:
    """What is wrong with a compiled gradient, or None; where the eager one is non-finite, nothing can be told."""
    if not eager.isfinite().all():
        return None
    if not gradient.isfinite().all():
        return "non-finite, unlike the eager one"
    error, norm = float((gradient - eager).norm()), float(eager.norm())
    return None if error <= 0.1 * norm else f"{error / norm if norm else math.inf:.0%} off the eager one"
