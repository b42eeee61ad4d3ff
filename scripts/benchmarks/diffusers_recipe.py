"""What a user would otherwise run: a bare loop of diffusers' training script for `AutoencoderKL`, written anew.

The script is examples/research_projects/autoencoderkl/train_autoencoderkl.py, commit e276f0866bb7; its defaults are
kept: squared error (`rec_loss` l2; l1 is its other choice) and 1e-6 times the KL, both summed over an image; from
`disc_start` on a hinge PatchGAN of three layers with `disc_factor` 1 and `disc_scale` 1 times the ratio of both
gradients at the last layer, which takes every other batch; AdamW with betas .9 and .999 and weight decay .01; a norm of
gradients of at most 1; a constant rate; fp32; no average of the weights. What differs, and why:

- LPIPS is left out: its weights would be fetched. The script computes it without gradients, so nothing else changes.
- `disc_start` is a fifth of the run instead of step 50,001, which no run of minutes reaches: latent diffusion's own
  KL-f8 began there, of 246,803 steps in all (model card of stabilityai/sd-vae-ft-mse).
- The batch is 32 and the autoencoder's rate 32 x 4.5e-6, as `--scale_lr` makes it, which leaves the discriminator's at
  4.5e-6: by 4.5e-6 the autoencoder's new weights would hardly move.
- Gradients that one network's step leaves on the other aren't kept for its own step: of the discriminator they point
  the wrong way, and the autoencoder's are the discriminator's loss.
- Grey images stay grey, and the network is the one of hfgen's VAE, newly initialised by diffusers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.budget import Given, Made, in_batches, spend
from hfgen.data import batch_indices
from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.pipelines.finite import check_images

BATCH = 32
_RATE, _DISC_RATE = 4.5e-6 * BATCH, 4.5e-6
_KL_SCALE, _DISC_FACTOR, _DISC_SCALE, _DISC_START = 1e-6, 1.0, 1.0, 0.2
_FITTED_ON = 10_000


def patch_discriminator(channels: int) -> nn.Sequential:
    """taming-transformers' `NLayerDiscriminator(n_layers=3)` with its `weights_init`: N(0, .02), and N(1, .02)."""
    widths = (64, 128, 256, 512)
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for stride, a, b in zip((2, 2, 1), widths, widths[1:], strict=False):
        layers += [nn.Conv2d(a, b, 4, stride, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
    for module in network:
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
    return network


def autoencoder_loss(images: Tensor, decoded: Tensor, kl: Tensor, fake: Tensor, last: Tensor, factor: float) -> Tensor:
    """The autoencoder's loss.

    Args:
        images: (N, C, R, R) in [-1, 1].
        decoded: Their reconstructions.
        kl: Of each posterior (N,), in nats.
        fake: What the discriminator says of the reconstructions.
        last: Weights of the decoder's last layer, where the gradients are compared.
        factor: `disc_factor`, 0 before `disc_start`.
    """
    nll, adversarial = F.mse_loss(decoded, images, reduction="sum") / len(images), -fake.mean()
    first, second = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (nll, adversarial))
    weight = (first / (second + 1e-4)).clamp(0, 1e4).detach() * _DISC_SCALE
    return nll + _KL_SCALE * kl.sum() / len(images) + weight * factor * adversarial


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge, of what the discriminator says of real images and of reconstructions."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class DiffusersLoop:
    """Both networks and their optimizers; `vae` is what the script saves."""

    def __init__(self, network: dict[str, Any]) -> None:
        from diffusers import AutoencoderKL

        self.vae: Any = AutoencoderKL.from_config(network)
        self.discriminator = patch_discriminator(network["in_channels"])
        self._optimizers = {
            net: torch.optim.AdamW(net.parameters(), rate, (0.9, 0.999), weight_decay=1e-2)
            for net, rate in ((self.vae, _RATE), (self.discriminator, _DISC_RATE))
        }
        self._seen = 0

    def step(self, images: Tensor, *, adversarial: bool) -> None:
        """See a batch (N, C, R, R) in [-1, 1]; `adversarial`: from `disc_start` on."""
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample
        if self._seen % 2 == 0 or not adversarial:
            factor, last = _DISC_FACTOR if adversarial else 0.0, self.vae.decoder.conv_out.weight
            fake = self.discriminator(decoded)
            self._update(self.vae, autoencoder_loss(images, decoded, posterior.kl(), fake, last, factor))
        else:
            scores = self.discriminator(images), self.discriminator(decoded.detach())
            self._update(self.discriminator, _DISC_FACTOR * discriminator_loss(*scores))
        self._seen += 1

    def _update(self, network: nn.Module, loss: Tensor) -> None:
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        self._optimizers[network].step()


def diffusers_recipe(given: Given) -> Made:
    """Train it; samples are decoded from the mixture of ten Gaussians that hfgen's VAE has, fitted to its latents.

    The script makes no samples: its autoencoder is for latent diffusion. With one prior for both, samples compare the
    autoencoders and not what their latents are drawn from.
    """
    if not given.network:
        raise UserError("diffusers: its network is that of hfgen's VAE, and these recipes have none")
    torch.manual_seed(given.seed)
    loop = DiffusersLoop(given.network)

    def step(share: float) -> int:
        images = to_float(given.train[torch.randint(len(given.train), (BATCH,))])
        loop.step(images, adversarial=share >= _DISC_START)
        return BATCH

    images, took = spend(given.seconds, step)
    vae = loop.vae.eval()
    rows = batch_indices(len(given.train), 0, min(_FITTED_ON, len(given.train)), seed=0)
    encoded = in_batches(lambda part: vae.encode(to_float(part)).latent_dist.sample(), given.train[rows])
    shape = tuple(encoded.shape[1:])
    prior = LatentPrior(shape, components=10)
    prior.fit(encoded)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(given.n, generator=generator), torch.randn(given.n, *shape, generator=generator)
    samples = in_batches(lambda latents: vae.decode(latents).sample, prior.sample(*drawn))
    again = in_batches(lambda part: vae.decode(vae.encode(to_float(part)).latent_dist.mode()).sample, given.originals)
    check_images(samples)
    check_images(again)
    return Made(images, took, to_uint8(samples), to_uint8(again))
