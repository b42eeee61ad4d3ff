"""VAE-GAN: a VAE whose reconstructions a PatchGAN judges too, as in latent diffusion (Rombach et al., 2112.10752)."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from hfgen.families.adversary import Adversary
from hfgen.families.vae import VAE
from hfgen.pipelines import VAEGANPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class VAEGAN(VAE, Adversary):
    """Settings of a VAE-GAN: the VAE's, and those of its adversary."""

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        super().__post_init__()
        self._check_adversary()

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """The VAE's networks, and the adversary's."""
        return {**super().build(resolution, channels, classes), **self._adversary_networks(resolution, channels)}

    def phases(self) -> list[Phase]:
        """The autoencoder's update, then the discriminator's on the same reconstructions."""
        return [*super().phases(), self._discriminator_phase()]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        return self._with_adversary(networks, step, *self._bound(networks, step))

    def _last_weight(self, networks: Networks) -> Tensor:
        return networks["vae"].decoder.conv_out.weight

    def pipeline(self, networks: Networks) -> VAEGANPipeline:
        """Decode the prior, or reconstruct."""
        return VAEGANPipeline(vae=networks["vae"], prior=networks.get("prior"))
