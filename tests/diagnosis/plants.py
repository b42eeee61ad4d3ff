"""A healthy autoencoder without training, and faults that are planted in it."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from hfgen.autoencoders import Autoencoder, Traits
from hfgen.data import draw
from hfgen.diagnosis.gates.context import Context
from hfgen.images import to_float, to_uint8

SIDE = 32


def coloured_glyphs(split: str, count: int) -> Tensor:
    """uint8 (count, 3, 32, 32): glyphs of one random colour on another."""
    shapes = to_float(draw("glyphs", split, 0, count, SIDE).images) / 2 + 0.5
    generator = torch.Generator().manual_seed(1)
    ink, paper = (torch.rand((count, 3, 1, 1), generator=generator) * 2 - 1 for _ in range(2))
    return to_uint8(paper + (ink - paper) * shapes)


def smooth_images(count: int, seed: int, channels: int = 1) -> Tensor:
    """uint8: sums of broad blobs, of which nothing is missing."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.arange(SIDE) / SIDE
    images = torch.zeros(count, channels, SIDE, SIDE)
    for _ in range(4):
        x, y, size, height = (torch.rand((count, channels, 1, 1), generator=generator) for _ in range(4))
        distance = (line - x).square() + (line[:, None] - y).square()
        images += (height - 0.5) * torch.exp(-distance / (0.02 + 0.05 * size))
    return to_uint8(images)


class Components(nn.Module):
    """Principal components of `training` as an autoencoder with a latent of (numbers, 1, 1)."""

    def __init__(self, training: Tensor, numbers: int, **config: object) -> None:
        super().__init__()
        self.config = config
        flat = to_float(training).flatten(1)
        self.centre = nn.Parameter(flat.mean(0), requires_grad=False)
        self.rows = nn.Parameter(torch.linalg.svd(flat - self.centre, full_matrices=False)[2][:numbers], False)
        self.shape = training.shape[1:]

    def encode(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latents=((images.flatten(1) - self.centre) @ self.rows.T)[:, :, None, None])

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=(latents.flatten(1) @ self.rows + self.centre).unflatten(1, self.shape))


class Planted(nn.Module):
    """A good autoencoder with something done to its images before and after."""

    def __init__(self, good: nn.Module, before=None, after=None) -> None:
        super().__init__()
        self.good, self.config = good, good.config
        self.before, self.after = before or (lambda x: x), after or (lambda y: y)

    def encode(self, images: Tensor) -> SimpleNamespace:
        return self.good.encode(self.before(images))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.after(self.good.decode(latents).sample))


def codec(network: nn.Module, **others: object) -> Autoencoder:
    """It as the gates see it, with `others` of its traits; it takes no images of other sizes to be tried on."""
    facts = {"channels": 3, "frames": False, "unit_range": False, "factor": SIDE, "side": SIDE}
    known = {"gaussian": False, "quantised": False, "draws": False, "batches": True}
    return Autoencoder(network, Traits(**{**facts, "latent_channels": 1, **known, **others}))


def context(images: Tensor, network: nn.Module | None = None, **more: object) -> Context:
    """Of a raw network."""
    return Context(images=images, network=codec(network) if network is not None else None, **more)


def found(context: Context, *gates) -> dict[str, str]:
    """Severity of all that isn't passed, by name."""
    from hfgen.diagnosis.gates.inspection import GATES, inspect

    inspection = inspect(context, gates or GATES)
    # No gate failed.
    assert inspection.notes == context.notes, inspection.notes
    return {each.name: each.severity for each in inspection.findings if each.severity in ("fault", "warning")}
