"""A plain DCGAN (Radford et al., 1511.06434) with its authors' widths and batch, and the stages that images need."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.budget import Given, Made, in_batches, spend
from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8
from hfgen.pipelines.finite import check_images

_LATENT, _BATCH, _WIDTH = 100, 64, 64


def networks(resolution: int, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Generator (n, 100, 1, 1) -> (n, C, R, R) and discriminator -> (n,); at 64 px as its authors' code.

    Raises:
        UserError: the resolution isn't 4 times a power of two.
    """
    stages = (resolution // 4).bit_length() - 1
    if stages < 1 or 4 * 2**stages != resolution:
        raise UserError(f"resolution: a DCGAN doubles from 4 px, and can't reach {resolution}; choose 16, 32, 64, ...")
    widths = [_WIDTH * 2**stage for stage in reversed(range(stages))]
    up = [_normed(nn.ConvTranspose2d(_LATENT, widths[0], 4, bias=False), nn.ReLU())]
    up += [_normed(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())
    down = [_normed(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)) for b, a in itertools.pairwise(widths)]
    discriminator = nn.Sequential(
        nn.Conv2d(channels, widths[-1], 4, 2, 1),
        nn.LeakyReLU(0.2),
        *reversed(down),
        nn.Conv2d(widths[0], 1, 4),
        nn.Flatten(0),
    )
    for module in (*generator.modules(), *discriminator.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
    return generator, discriminator


def dcgan(given: Given) -> Made:
    """Train it with its published rates, in fp32, and draw samples."""
    torch.manual_seed(given.seed)
    generator, discriminator = networks(given.train.shape[-1], given.train.shape[1])
    first, second = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (discriminator, generator))

    def step(_: float) -> int:
        real = to_float(given.train[torch.randint(len(given.train), (_BATCH,))])
        fake = generator(torch.randn(_BATCH, _LATENT, 1, 1))
        for optimizer, pairs in ((first, ((real, 1.0), (fake.detach(), 0.0))), (second, ((fake, 1.0),))):
            optimizer.zero_grad()
            for images, target in pairs:
                scores = discriminator(images)
                binary_cross_entropy_with_logits(scores, torch.full_like(scores, target)).backward()
            optimizer.step()
        return len(real)

    images, took = spend(given.seconds, step)
    generator.eval()
    samples = in_batches(generator, torch.randn(given.n, _LATENT, 1, 1))
    check_images(samples)
    return Made(images, took, to_uint8(samples), None)


def _normed(layer: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), activation)
