"""Random images of known spectrum: noise, shapes with sharp edges, and a blur that is exact in frequency."""

import math

import torch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, side: int = 32, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, channels, side, side), generator=generator(seed), dtype=torch.uint8)


def blobs(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth random shapes with sharp edges."""
    waves = torch.rand(count, 1, 4, 4, generator=generator(seed))
    smooth = torch.nn.functional.interpolate(waves, size=side, mode="bicubic")
    return torch.where(smooth > 0.5, 220, 30).to(torch.uint8)


def gains(side: int, sigma: float) -> torch.Tensor:
    frequency = torch.fft.fftfreq(side, dtype=torch.float64)
    return torch.exp(-2 * (math.pi * sigma) ** 2 * (frequency[:, None] ** 2 + frequency**2))


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Circular Gaussian blur, exact in frequency, rounded to 8 bits."""
    transformed = torch.fft.fft2(images.double()) * gains(images.shape[-1], sigma)
    return torch.fft.ifft2(transformed).real.round().clamp(0, 255).to(torch.uint8)
