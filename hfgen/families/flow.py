"""A VAE's encoder, frozen, with a flow-matching decoder (Lipman et al., 2210.02747), a stock `UNet2DModel`."""

from __future__ import annotations

import dataclasses
from functools import partial
from math import gcd

import torch
from torch import Tensor, nn

from hfgen.errors import UserError
from hfgen.families.vae import VAE, fit_latents
from hfgen.objectives.straight_path import straight_path
from hfgen.pipelines import FlowPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import as_channels
from hfgen.setting_bounds import at_least, positive
from hfgen.training.phases import Loss, Networks, Phase, Step

# By which `FlowMatchEulerDiscreteScheduler` counts times of [0, 1].
_TIMES = 1000
# The smallest side inside the U-Net: from there each place sees the whole image.
_INNERMOST = 4


@dataclasses.dataclass(frozen=True)
class Flow(VAE):
    """Settings of a flow: those of a VAE, which makes the latents, and those of the decoder from noise.

    The VAE is trained by the run's first part, or, with `freeze_encoder`, is that of the model that the run starts
    from; then all of the run trains the U-Net.

    Args:
        flow_begin: Share of the run's images from which the VAE rests and the U-Net learns; 0 with `freeze_encoder`.
        unet_width: Channels of the U-Net at full resolution.
        unet_max_width: Most channels of any of its levels.
        unet_layers: Residual layers of each of its levels.
        flow_lr: Peak learning rate of the U-Net.
    """

    flow_begin: float = 0.3
    unet_width: int = 32
    unet_max_width: int = 64
    unet_layers: int = 1
    flow_lr: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        super().__post_init__()
        if not self.freeze_encoder and not 0 < self.flow_begin < 1:
            raise UserError(
                f"model.flow_begin: {self.flow_begin} isn't between 0 and 1; choose a share of the run, or train on "
                "the latents of a trained model: --start_from MODEL --model.freeze_encoder true"
            )
        for name in ("unet_width", "unet_max_width"):
            if getattr(self, name) < 16 or getattr(self, name) % 16:
                raise UserError(f"model.{name}: {getattr(self, name)} isn't a positive multiple of 16; choose 32, 64")
        at_least(1, self, "unet_layers")
        positive(self, "flow_lr")

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """The VAE's networks, and `unet`."""
        networks = super().build(resolution, channels, classes)
        if self.freeze_encoder:
            # Its decoder isn't used.
            networks["vae"].requires_grad_(False)
        return {**networks, "unet": self._build_unet(resolution, channels)}

    def _build_unet(self, resolution: int, channels: int) -> nn.Module:
        from diffusers import UNet2DModel

        levels = max(1, (resolution // _INNERMOST).bit_length())
        while levels > 1 and resolution % 2 ** (levels - 1):
            levels -= 1
        widths = [min(self.unet_width * 2**level, self.unet_max_width) for level in range(levels)]
        return UNet2DModel(
            sample_size=resolution,
            in_channels=channels + self.latent_channels,
            out_channels=channels,
            block_out_channels=widths,
            down_block_types=["DownBlock2D"] * levels,
            up_block_types=["UpBlock2D"] * levels,
            layers_per_block=self.unet_layers,
            norm_num_groups=min(32, gcd(*widths) // 2),
        )

    def phases(self) -> list[Phase]:
        """The VAE first, unless it is frozen; then the U-Net, on the latents of the averaged VAE."""
        begin = 0.0 if self.freeze_encoder else self.flow_begin
        # The U-Net has learnt the latents as they are: no statistics of them are put into the config afterwards.
        fit = partial(fit_latents, statistics=False)
        flow = Phase("flow", ("unet",), self._flow_loss, self.flow_lr, begin=begin, clip=1.0, fit=fit)
        if self.freeze_encoder:
            return [flow]
        return [*(dataclasses.replace(phase, end=begin, fit=None) for phase in super().phases()), flow]

    def _flow_loss(self, networks: Networks, step: Step) -> Loss:
        """Mean squared error of the velocity, at a time of [0, 1] an image."""
        images = step.images
        noise, times = step.draws.normal(tuple(images.shape)), step.draws.uniform((len(images),))
        points, velocities = straight_path(images, noise, times)
        seen = torch.cat([points, self._condition(step)], 1)
        predicted = networks["unet"](seen, _TIMES * times).sample.float()
        mse = (predicted - velocities).square().mean()
        return Loss(mse, {"mse": mse.detach()})

    @torch.no_grad()
    def _condition(self, step: Step) -> Tensor:
        """Samples of the posteriors, as channels of the images."""
        vae = step.averages["vae"]
        posterior = vae.encode(step.images).latent_dist
        latents = posterior.mean + posterior.std * step.draws.normal(tuple(posterior.mean.shape))
        return as_channels(latents, vae.config, step.images.shape[-1])

    def pipeline(self, networks: Networks) -> FlowPipeline:
        """Draw images from noise, given a latent of the prior or of an image."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=_TIMES)
        return FlowPipeline(networks["vae"], networks["unet"], scheduler, networks.get("prior"))
