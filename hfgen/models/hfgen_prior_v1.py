"""A density fitted to a VAE's latents: what to decode instead of draws from N(0, I).

One file without relative imports: it travels with the checkpoint, so that diffusers loads it without hfgen.
"""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn.functional import one_hot


class LatentPrior(ModelMixin, ConfigMixin):
    """A mixture of Gaussians over latents (C, h, w), taken as one vector of D = C h w numbers.

    It stands for the aggregate posterior, q(z) = E_x q(z | x), which a VAE's decoder was trained on, and which
    N(0, I) is not (Dai and Wipf, 1903.05789; Ghosh et al., 1903.12436, section 4). Before `fit` it is N(0, I).

    Args:
        latent_shape: (C, h, w).
        components: Gaussians in the mixture; 1 is a plain Gaussian.
        covariance: `full` (a DxD factor per component) or `diagonal` (D standard deviations per component).
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    @register_to_config
    def __init__(
        self, latent_shape: tuple[int, int, int] = (16, 1, 1), components: int = 1, covariance: str = "full"
    ) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        one = torch.eye(size) if covariance == "full" else torch.ones(size)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("factors", torch.stack([one] * components))

    def sample(self, uniforms: Tensor, normals: Tensor) -> Tensor:
        """Latents (N, C, h, w): uniforms (N,) in [0, 1) choose the components, normals (N, C, h, w) the points."""
        # On the CPU: Apple's GPU has no float64.
        shares = self.weights.cpu().double().cumsum(0)
        chosen = torch.searchsorted(shares, uniforms.cpu().double(), right=True).clamp_max(len(shares) - 1)
        chosen = chosen.to(self.means.device)
        normals = normals.to(self.means)
        moved = torch.empty_like(normals.flatten(1))
        for component in range(len(shares)):
            rows = chosen == component
            moved[rows] = _stretch(normals.flatten(1)[rows], self.factors[component])
        return (self.means[chosen] + moved).reshape(normals.shape)

    def log_prob(self, latents: Tensor) -> Tensor:
        """Log density of latents (N, C, h, w) in nats, (N,) in float64 on the CPU."""
        parts = (self.weights, self.means, self.factors)
        return _log_joint(latents.cpu().double().flatten(1), *(part.cpu().double() for part in parts)).logsumexp(1)

    @torch.no_grad()
    def fit(self, latents: Tensor, steps: int = 100, tolerance: float = 1e-3) -> None:
        """Maximise the likelihood of latents (N, C, h, w) by expectation-maximisation, seeded, on the CPU.

        The same latents give the same bits. Starts from k-means clusters and ends after `steps`, or where the mean
        log-likelihood gains less than `tolerance`. Each covariance counts a hundredth of a latent more than there
        are, spread as all of them along the axes (a conjugate prior; Fraley and Raftery, 2007): none is singular.
        """
        latents = latents.cpu().double().flatten(1)
        spread = latents.var(0, correction=0).clamp_min(1e-12)
        full = self.config.covariance == "full"
        shares, before = _cluster(latents, len(self.weights)), -math.inf
        for _ in range(steps):
            parts = _maximise(latents, shares, spread, full)
            joint = _log_joint(latents, *parts)
            likelihood = joint.logsumexp(1, keepdim=True)
            shares, now = (joint - likelihood).exp(), float(likelihood.mean())
            if now - before < tolerance:
                break
            before = now
        for name, part in zip(("weights", "means", "factors"), parts, strict=True):
            getattr(self, name).copy_(part.float())


def _stretch(points: Tensor, factor: Tensor) -> Tensor:
    """Points (N, D) of N(0, I) with the covariance of `factor`, (D, D) or (D,)."""
    return points @ factor.T if factor.ndim == 2 else points * factor


def _cluster(points: Tensor, count: int) -> Tensor:
    """Shares (N, K), 0 or 1, of k-means clusters: 20 of Lloyd's steps from greedy k-means++ centres.

    The first centre is any point; each other one the best of 4, which are the likelier the farther from the centres
    before (Arthur and Vassilvitskii, 2007).
    """
    uniforms = torch.rand(count, 4, generator=torch.Generator().manual_seed(0), dtype=points.dtype)
    centres = points[int(uniforms[0, 0] * len(points))][None]
    distances = torch.cdist(points, centres).square()
    for four in uniforms[1:]:
        sums = distances.flatten().cumsum(0)
        tried = points[torch.searchsorted(sums, four * sums[-1], right=True).clamp_max(len(points) - 1)]
        squares = torch.minimum(distances, torch.cdist(points, tried).square())
        best = int(squares.sum(0).argmin())
        centres, distances = torch.cat([centres, tried[best : best + 1]]), squares[:, best : best + 1]
    for _ in range(20):
        shares = one_hot(torch.cdist(points, centres).argmin(1), count).to(points)
        centres = shares.T @ points / shares.sum(0).clamp_min(1e-12)[:, None]
    return shares


def _maximise(latents: Tensor, shares: Tensor, spread: Tensor, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, D) and factors of the components that have these shares (N, K) in latents (N, D)."""
    few, counts = 0.01, shares.sum(0)
    means = shares.T @ latents / counts.clamp_min(1e-12)[:, None]
    factors = []
    for share, mean, count in zip(shares.T, means, counts, strict=True):
        centred = (latents - mean) * share[:, None].sqrt()
        if full:
            factors.append(torch.linalg.cholesky((centred.T @ centred + few * spread.diag()) / (count + few)))
        else:
            factors.append(((centred.square().sum(0) + few * spread) / (count + few)).sqrt())
    return counts / counts.sum(), means, torch.stack(factors)


def _log_joint(latents: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """log(weight_k N(latent_n; mean_k, factor_k factor_k^T)), (N, K)."""
    columns = []
    for mean, factor in zip(means, factors, strict=True):
        if factor.ndim == 2:
            units = torch.linalg.solve_triangular(factor, (latents - mean).T, upper=False).T
            scale = factor.diagonal()
        else:
            units, scale = (latents - mean) / factor, factor
        columns.append(-0.5 * units.square().sum(1) - scale.log().sum())
    return torch.stack(columns, 1) + weights.log() - 0.5 * latents.shape[1] * math.log(2 * math.pi)
