"""Vector quantisation: nearest code, commitment, and a codebook that follows the data (1711.00937)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

_DISTANCES = 2**26


class Quantised(NamedTuple):
    """`latents` (N, D, h, w) with the straight-through gradient, `codes` (N, h, w), `commitment` scalar."""

    latents: Tensor
    codes: Tensor
    commitment: Tensor


def quantise(latents: Tensor, codebook: Tensor) -> Quantised:
    """Replace each latent vector by its nearest code, in fp32: a bf16 distance picks other codes.

    Args:
        latents: Encoder outputs (N, D, h, w).
        codebook: (K, D).

    The commitment term, mean (z - sg[e])^2, moves the encoder only (van den Oord et al., equation 3).
    """
    with torch.autocast(latents.device.type, enabled=False):
        z = latents.float().permute(0, 2, 3, 1)
        codes = nearest_codes(z.detach().reshape(-1, z.shape[-1]), codebook.float()).view(z.shape[:-1])
        nearest = embedding(codes, codebook.float())
        commitment = (z - nearest.detach()).square().mean()
        straight_through = z + (nearest - z).detach()
        return Quantised(straight_through.permute(0, 3, 1, 2).contiguous(), codes, commitment)


def nearest_codes(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The index (M,) of the nearest code (K, D) of each vector (M, D).

    Distances are held in parts of at most 256 MB: all of 32 images of 256 px and factor 8 to 16,384 codes are 2.1 GB.
    """
    parts = vectors.split(max(1, _DISTANCES // len(codebook)))
    return torch.cat([torch.cdist(part, codebook).argmin(1) for part in parts])


def product_grid(levels: Sequence[int]) -> Tensor:
    """The codebook (K, D) of finite scalar quantisation: every combination of D coordinates (2309.15505).

    Coordinate i takes `levels[i]` evenly spaced values from -1 to 1. The nearest code of a latent is each of its
    coordinates clamped to [-1, 1] and rounded to the nearest value, so that any vector quantiser does it.
    """
    return torch.cartesian_prod(*(torch.linspace(-1, 1, count) for count in levels)).view(-1, len(levels))


class CodebookAverage(nn.Module):
    """How often each code is used and the mean of its latents, as moving averages (appendix A.1).

    `idle` counts the updates since some latent took the code; infinite before the first.
    """

    counts: Tensor
    totals: Tensor
    idle: Tensor

    def __init__(self, size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("totals", torch.zeros(size, dimension))
        self.register_buffer("idle", torch.full((size,), torch.inf))

    @torch.no_grad()
    def see(self, codes: Tensor) -> None:
        """Count one update, whose latents took `codes` (M,)."""
        self.idle.add_(1)[codes] = 0

    def usage(self, updates: float) -> Tensor:
        """Share of the codebook that some latent took in the last so many updates."""
        return (self.idle < updates).float().mean()

    @torch.no_grad()
    def update(self, codebook: Tensor, latents: Tensor, codes: Tensor, picks: Tensor, decay: float) -> None:
        """Move `codebook` (K, D) in place to the averages; codes that nothing uses restart on latents.

        Args:
            codebook: The weights to move.
            latents: Encoder outputs (M, D) of the whole batch, over all processes.
            codes: Their codes (M,).
            picks: K indices into `latents`, where dead codes restart.
            decay: Of the averages, per call.

        A code is dead when its average count is below a tenth of a fair share, as nearly all are at the first call.
        """
        # Not `one_hot`: its M x K numbers are gigabytes at thousands of codes.
        ones = torch.ones(len(codes), dtype=self.counts.dtype, device=codes.device)
        used = torch.zeros_like(self.counts).index_add_(0, codes, ones)
        sums = torch.zeros_like(self.totals).index_add_(0, codes, latents.to(self.totals))
        self.counts.lerp_(used, 1 - decay)
        self.totals.lerp_(sums, 1 - decay)
        fair = len(latents) / len(codebook)
        dead = self.counts < 0.1 * fair
        self.counts[dead] = fair
        self.totals[dead] = fair * latents[picks[dead]]
        codebook.copy_(self.totals / self.counts[:, None])


def perplexity(codes: Tensor, size: int) -> Tensor:
    """exp(entropy) of the codes' frequencies: how many of the `size` codes are in effective use."""
    share = torch.bincount(codes.flatten(), minlength=size).float() / codes.numel()
    return torch.special.entr(share).sum().exp()


def codebook_warning(perplexity: float, codes: int) -> str | None:
    """What is wrong with a codebook of this perplexity in a batch, or None; a rule of thumb: below 2 %, or 2 codes."""
    if perplexity >= max(2.0, 0.02 * codes):
        return None
    return f"the codebook has collapsed: {perplexity:.1f} of {codes} codes are in use (perplexity)"
