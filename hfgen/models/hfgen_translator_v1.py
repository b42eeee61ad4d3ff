"""pix2pix's generator: a U-Net that translates one image into another (Isola et al., 1611.07004, section 3.2.1).

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pad, relu

# Of the decoder's levels, the innermost drop out.
_NOISY_LEVELS = 3


class Translator(ModelMixin, ConfigMixin):
    """Conditions (N, condition_channels, sample_size, sample_size) in [-1, 1] -> images (N, out_channels, ...) alike.

    Convolutions of kernel 4 halve the side down to 2; pixels are repeated and convolved to double it again; each level
    of the decoder also sees the encoder's of its size. The paper's transposed convolutions would draw checkerboards,
    whose high frequencies pass for sharpness (Odena et al., 2016). Groups are normalised where the paper normalises
    batches: no image sees another.

    Args:
        condition: What it translates: `edges`, which are made from the images themselves, or the name of the
            column of images that it was trained on.
        condition_channels: 1 (grey, and edges) or 3 (RGB).
        out_channels: 1 (grey) or 3 (RGB).
        sample_size: Side of the images, a power of two of 4 or more.
        width: Channels at half the side; each level inside has twice as many.
        max_width: Most channels of any level.
        dropout: Share of the innermost three levels' outputs that `noise` drops, which is the paper's z.
    """

    @register_to_config
    def __init__(
        self,
        condition: str = "edges",
        condition_channels: int = 1,
        out_channels: int = 3,
        sample_size: int = 64,
        width: int = 32,
        max_width: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        levels = sample_size.bit_length() - 2
        widths = [min(width * 2**level, max_width) for level in range(levels)]
        inputs, outputs = [condition_channels, *widths[:-1]], [out_channels, *widths[:-1]]
        down = [nn.Conv2d(i, o, 4, 2, 1) for i, o in zip(inputs, widths, strict=True)]
        # All but the innermost read the skip connection too.
        up = [
            nn.Conv2d(width if level == levels - 1 else 2 * width, outputs[level], 3, padding=1)
            for level, width in enumerate(widths)
        ]
        for convolution in (*down, *up):
            nn.init.kaiming_normal_(convolution.weight, a=0.2)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        # Starts near flat grey: noise of full contrast would have to be unlearnt.
        nn.init.kaiming_normal_(up[0].weight, a=10)
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(reversed(up))
        self.down_norms = nn.ModuleList(_norm(width) for width in widths[1:-1])
        self.up_norms = nn.ModuleList(_norm(width) for width in reversed(widths[:-1]))
        self._noisy = [(widths[level - 1], sample_size >> level) for level in range(levels - 1, 0, -1)][:_NOISY_LEVELS]

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of one image's noise."""
        return (sum(width * side**2 for width, side in self._noisy),)

    def forward(self, conditions: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate.

        Args:
            conditions: (N, condition_channels, R, R) in [-1, 1].
            noise: (N, *noise_shape), uniform in [0, 1): what falls below `dropout` drops out; None drops nothing.
        """
        skips, x = [], conditions
        for level, convolution in enumerate(self.down):
            x = convolution(leaky_relu(x, 0.2) if level else x)
            if 0 < level < len(self.down) - 1:
                x = self.down_norms[level - 1](x)
            skips.append(x)
        masks = [] if noise is None or not self.config.dropout else self._masks(noise)
        for level, convolution in enumerate(self.up):
            x = relu(x if level == 0 else torch.cat([x, skips[-1 - level]], 1))
            x = convolution(interpolate(x, scale_factor=2.0, mode="nearest"))
            if level < len(self.up_norms):
                x = self.up_norms[level](x)
            if level < len(masks):
                x = x * masks[level].to(x.dtype)
        return x.float().tanh()

    def _masks(self, noise: Tensor) -> list[Tensor]:
        """What the levels' outputs are multiplied by, from the inside out."""
        keep = 1 - self.config.dropout
        cuts = noise.split([width * side**2 for width, side in self._noisy], 1)
        shaped = (cut.unflatten(1, (width, side, side)) for cut, (width, side) in zip(cuts, self._noisy, strict=True))
        return [(cut >= self.config.dropout) / keep for cut in shaped]

    def pair(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Cut images (N, C, R, R) in [-1, 1] into targets and their conditions.

        Behind the targets' channels come the conditions', unless these are the targets' edges.
        """
        targets = images[:, : self.config.out_channels]
        paired = self.config.condition != "edges"
        return targets, images[:, self.config.out_channels :] if paired else edges(targets)


def edges(images: Tensor) -> Tensor:
    """Sobel's gradient magnitude of the luma (N, 1, R, R), from -1 (flat) to 1 (a straight step from -1 to 1).

    `images` (N, C, R, R) in [-1, 1] with C = 1 or 3 (luma of ITU-R BT.601); their borders are repeated.
    """
    if images.shape[1] == 3:
        images = (images * images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    x = pad(images.float(), (1, 1, 1, 1), mode="replicate")
    rows, columns = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:], x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    across, down = rows[..., 2:] - rows[..., :-2], columns[:, :, 2:] - columns[:, :, :-2]
    return ((across.square() + down.square()).sqrt().div(4).clamp(max=2) - 1).to(images.dtype)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8), channels)
