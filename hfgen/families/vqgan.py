"""VQGAN (Esser et al., 2012.09841): a VQ-VAE whose reconstructions a PatchGAN judges too, and its prior."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from hfgen.families.adversary import Adversary
from hfgen.families.vqvae import VQVAE
from hfgen.pipelines import VQGANPipeline
from hfgen.training.phases import Loss, Networks, Phase, Step


@dataclasses.dataclass(frozen=True)
class VQGAN(VQVAE, Adversary):
    """Settings of a VQGAN: the VQ-VAE's, and those of its adversary, which stops once the prior learns.

    Args:
        adversarial_begin: Share of the run, less than prior_begin, after which the discriminator learns and its
            term is added.
    """

    adversarial_begin: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        super().__post_init__()
        self._check_adversary(end=self.prior_begin)

    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """The VQ-VAE's networks, and the adversary's."""
        return {**super().build(resolution, channels, classes), **self._adversary_networks(resolution, channels)}

    def phases(self) -> list[Phase]:
        """The autoencoder's update, then the discriminator's on the same reconstructions; the prior's at last."""
        autoencoder, *others = super().phases()
        return [autoencoder, self._discriminator_phase(end=self.prior_begin), *others]

    def _loss(self, networks: Networks, step: Step) -> Loss:
        decoded, mse, loss = self._reconstruction(networks, step)
        return self._with_adversary(networks, step, decoded, mse, loss)

    def _last_weight(self, networks: Networks) -> Tensor:
        return networks["vqvae"].decoder.conv_out.weight

    def pipeline(self, networks: Networks) -> VQGANPipeline:
        """Decode codes drawn from the prior, or reconstruct."""
        return VQGANPipeline(vqvae=networks["vqvae"], prior=networks["prior"])
