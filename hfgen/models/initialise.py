"""Initial weights of diffusers' autoencoder blocks."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Start every convolution at unit gain, and every residual block as the identity.

    He's normal weights without a rectifier's gain (1502.01852), zero biases, zero last convolution of each
    residual branch (Goyal et al., 1706.02677, section 5.1). With torch's defaults, whose gain is 1/sqrt(3), a
    decoder of ten blocks and more passes on so little of a vector latent that it learns the mean image first.
    """
    from diffusers.models.resnet import ResnetBlock2D

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
