"""torch.compile, and whether its gradients are those of eager networks: Inductor's can be wrong without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn


def compile_networks(
    networks: Mapping[str, nn.Module], mode: str, gradients: Callable[[str], dict[str, Tensor]]
) -> str | None:
    """Compile in place, child by child: losses call `encode` and `decode`, which a compiled whole would miss.

    Args:
        networks: What is compiled.
        mode: Of torch.compile.
        gradients: Mode, or off -> each phase's gradient, flat, by the phase's name.

    Returns:
        What is wrong with the compiled gradients, in words, or None.
    """
    eager = gradients("off")
    for network in networks.values():
        for module in (network, *network.children()):
            module.compile(mode=mode)
    for name, gradient in gradients(mode).items():
        error = float((gradient - eager[name]).norm() / eager[name].norm())
        if error > 0.1:
            return f"torch.compile gives {name} a gradient that is {error:.0%} off the eager one"
    return None
