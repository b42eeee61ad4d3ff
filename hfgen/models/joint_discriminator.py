"""A discriminator of pairs: does this latent go with this image? (Dumoulin et al., 1606.00704, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from hfgen.models.discriminator import ImageDiscriminator, Join, Score


class JointDiscriminator(ImageDiscriminator):
    """Images (N, C, R, R) in [-1, 1] and latents (N, ...) -> one score a pair (N,); higher is from the encoder.

    A layer on the features of an `ImageDiscriminator` combines them with what two layers make of the flattened latent.
    """

    def __init__(self, channels: int, resolution: int, width: int, max_width: int, latent: int) -> None:
        super().__init__(channels, resolution, width, max_width)
        here = max_width
        self.hidden = nn.Linear(self.feature_count, here)
        self.score = Score(here, 0)
        self.latent = nn.Sequential(nn.Linear(latent, here), nn.LeakyReLU(0.2), nn.Linear(here, here))
        self.joint = nn.Sequential(nn.Linear(2 * here, here), nn.LeakyReLU(0.2), nn.Linear(here, here))
        for module in (self.hidden, *self.latent, *self.joint, self.score.linear):
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, latents: Tensor, join: Join | None = None) -> Tensor:  # type: ignore[override]
        """Score the pairs; the images are seen in groups of four neighbours."""
        seen = leaky_relu(self.hidden(self.features(images, join)), 0.2)
        features = torch.cat([seen, leaky_relu(self.latent(latents.flatten(1)), 0.2)], 1)
        return self.score(leaky_relu(self.joint(features), 0.2), None)
