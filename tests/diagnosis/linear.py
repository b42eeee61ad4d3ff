"""Linear autoencoders, of which every intervention's answer is known; convolutions over the whole image."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from hfgen.autoencoders import Autoencoder, Traits
from hfgen.images import to_uint8

SIDE = 16
PIXELS = SIDE**2
VARIANCE = 0.06
"""Of each pixel in [-1, 1]: the images are white noise, so that all components carry alike."""


def white_images(count: int, seed: int) -> Tensor:
    """uint8 (count, 1, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return to_uint8(torch.randn((count, 1, SIDE, SIDE), generator=generator) * math.sqrt(VARIANCE))


def cosines() -> Tensor:
    """The orthonormal cosine transform: rows (256, 1, 16, 16), by rising frequency in both directions."""
    places = torch.arange(SIDE, dtype=torch.float64)
    basis = torch.cos(math.pi / SIDE * (places + 0.5) * places[:, None]) * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    both = torch.einsum("ai,bj->abij", basis, basis).reshape(PIXELS, 1, SIDE, SIDE)
    order = (places[:, None] + places).reshape(-1).argsort(stable=True)
    return both[order].float()


class Linear(nn.Module):
    """Rows of `encoder` (k, 1, 16, 16) give latents (N, k, 1, 1), those of `decoder` weigh into the image."""

    def __init__(self, encoder: Tensor, decoder: Tensor, deviation: float = 0.0) -> None:
        super().__init__()
        self.config: dict[str, int] = {}
        self.encoder = nn.Conv2d(1, len(encoder), SIDE, bias=False)
        self.decoder = nn.ConvTranspose2d(len(decoder), 1, SIDE, bias=False)
        self.encoder.weight.data.copy_(encoder)
        self.decoder.weight.data.copy_(decoder)
        self.deviation = deviation

    def encode(self, images: Tensor) -> SimpleNamespace:
        mean = self.encoder(images)
        if not self.deviation:
            return SimpleNamespace(latents=mean)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=torch.full_like(mean, self.deviation)))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.decoder(latents))


def codec(network: Linear) -> Autoencoder:
    """It as the interventions see it; convolutions over the whole image can't be tried on other sizes."""
    latents = network.encoder.out_channels
    facts = {"channels": 1, "frames": False, "unit_range": False, "factor": SIDE, "side": SIDE}
    known = {"gaussian": network.deviation > 0, "quantised": False, "draws": False, "batches": True}
    return Autoencoder(network, Traits(**facts, latent_channels=latents, **known))


def pipeline(network: Linear) -> SimpleNamespace:
    """What `make_stages` needs of one that draws nothing."""
    return SimpleNamespace(codec=codec(network), generator_network=None, can_reconstruct=True, can_sample=False)
