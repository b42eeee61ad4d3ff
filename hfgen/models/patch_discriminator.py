"""PatchGAN: a discriminator that judges patches instead of images (Isola et al., 1611.07004, section 3.2.2)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> scores (N, 1, S, S), S = R // 2^layers; higher is more real.

    `layers` convolutions of kernel 4 halve the side, two more keep it; with none, a PixelGAN's three of kernel 1
    judge each pixel alone (appendix 6.1.2). Unlike pix2pix's, the last two are padded
    by 3 in all, so that small images leave scores; and nothing is normalised: statistics of the batch would tie
    images together, those of an image would show every patch the whole of it.
    """

    def __init__(self, channels: int, width: int, max_width: int, layers: int) -> None:
        super().__init__()
        widths = [min(width * 2**i, max_width) for i in range(max(layers, 1) + 1)]
        blocks: list[nn.Module] = []
        kernel, same = (4, nn.ZeroPad2d((1, 2, 1, 2))) if layers else (1, nn.Identity())
        for inputs, outputs in zip([channels, *widths], widths[:-1], strict=False):
            halve = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            blocks += [halve if layers else nn.Conv2d(inputs, outputs, 1), nn.LeakyReLU(0.2)]
        blocks += [same, nn.Conv2d(widths[-2], widths[-1], kernel), nn.LeakyReLU(0.2)]
        blocks += [same, nn.Conv2d(widths[-1], 1, kernel)]
        self.blocks = nn.Sequential(*blocks)
        for module in blocks:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Score every patch."""
        return self.blocks(images)


def receptive_field(layers: int) -> int:
    """Side of the patch that one score sees, in pixels: 1, 16, 34, 70, 142, 286 with 0 to 5 layers."""
    return 9 * 2**layers - 2 if layers else 1
