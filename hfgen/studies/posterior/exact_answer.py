"""One held-out glyph and one draw of its latent -> the exact E[x | z], draws of x given z, and whether runs agree."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.seeds import derive_seed
from hfgen.studies.posterior.convergence import Moments, disagreement, effective_size, mixed, moments
from hfgen.studies.posterior.glyph_channel import COUNTS, PLACES, GlyphChannel, Latents
from hfgen.studies.posterior.tempered_sampler import Run, Unknowns, from_truth, prior_draws, sample

# Runs whose means differ by more than their variance allows haven't converged: bounds for R.
_MOST_BETWEEN_GROUPS, _MOST_FROM_TRUTH = 1.1, 1.2
# Of chi^2: a latent's residual at a draw of its posterior has the law of that at the truth.
_LOST = 0.999
_DRAWS = 4
# Of the sweeps at the end: the first share is left out, and of the others every so manyth counts. From the truth, where
# all particles begin alike, it takes longer until they have spread.
_WARM_UP, _TRUTH_WARM_UP, _EVERY = 0.25, 0.5, 3
_TRUTH_PARTICLES, _TRUTH_SWEEPS = 16, 4


class Size(NamedTuple):
    """Of the sampling.

    `bank` draws of the prior, half of them a group's; `particles` of a group's first run; `attempts`: runs of a group,
    each of twice as many particles, until the groups agree; `sweeps` of Metropolis steps at the end of a run.
    """

    bank: int
    particles: int
    sweeps: int
    attempts: int


class Bank(NamedTuple):
    """Draws of the prior, and their latents."""

    unknowns: Unknowns
    latents: Latents

    def tensors(self) -> dict[str, Tensor]:
        """To be stored."""
        return {**self.unknowns._asdict(), **self.latents._asdict()}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Bank:
        """What was stored."""
        unknowns = Unknowns(*(tensors[name] for name in Unknowns._fields))
        return cls(unknowns, Latents(*(tensors[name] for name in Latents._fields)))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is known of one image given one latent; `means` are (2, R, R) in [0, 1], of two groups of runs.

    The groups share nothing but the latent: the product of their means has the expectation of the squared mean, where
    that of one mean with itself is too large by the variance of its draws.
    """

    original: Tensor
    means: Tensor
    decoded: Tensor
    draws: Tensor
    numbers: dict[str, float]

    def tensors(self) -> dict[str, Tensor]:
        """To be stored."""
        images = {"original": self.original, "means": self.means, "decoded": self.decoded, "draws": self.draws}
        numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.numbers.items()}
        return {name: value.contiguous() for name, value in {**images, **numbers}.items()}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Answer:
        """What was stored."""
        images = {name: tensors[name] for name in ("original", "means", "decoded", "draws")}
        return cls(**images, numbers={name: float(tensors[name]) for name in sorted(tensors.keys() - images.keys())})


def make_bank(channel: GlyphChannel, size: Size, seed: int) -> Bank:
    """The bank that all images share."""
    unknowns = prior_draws(COUNTS, PLACES, size.bank, torch.Generator().manual_seed(derive_seed("bank", seed)))
    return Bank(unknowns, channel.latents(channel.images(unknowns)))


class _Group:
    """Runs from one half of the bank, weighted by their evidence."""

    def __init__(self, channel: GlyphChannel, bank: Bank, half: int, latent: Tensor) -> None:
        rows = torch.arange(half, len(bank.unknowns.choices), 2)
        self.channel, self.latent, self.half = channel, latent, half
        self.unknowns = bank.unknowns.at(rows)
        self.values = bank.latents.log_density(latent)[rows]
        self.runs: list[Run] = []
        self.parts: list[Moments] = []

    def extend(self, particles: int, sweeps: int, seed: int) -> None:
        """Make one more run."""
        target = self.channel.log_likelihood(self.latent)
        generator = torch.Generator().manual_seed(derive_seed("run", seed, self.half, len(self.runs)))
        run = sample(target, self.unknowns, self.values, COUNTS, particles, sweeps, generator)
        self.runs.append(run)
        self.parts.append(moments(self.channel.images(_kept(run))))

    @property
    def evidences(self) -> list[float]:
        return [run.log_evidence for run in self.runs]

    @property
    def moments(self) -> Moments:
        return mixed(self.parts, self.evidences)

    @property
    def log_evidence(self) -> float:
        """Log of the mean evidence."""
        return _log_mean(self.evidences)

    @property
    def effective(self) -> float:
        """Of the log likelihood; relatives by resampling count as independent chains."""
        shares = torch.tensor(self.evidences, dtype=torch.float64).softmax(0)
        sizes = torch.tensor([effective_size(run.trace) for run in self.runs], dtype=torch.float64)
        return float(1 / (shares.square() / sizes).sum())

    def draws(self, count: int, generator: torch.Generator) -> Unknowns:
        """Some of the particles at the runs' ends."""
        shares = torch.tensor(self.evidences, dtype=torch.float64).softmax(0)
        runs = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
        picked = []
        for number in runs:
            particles = self.runs[number].particles
            row = torch.randint(len(particles.choices), (1,), generator=generator)
            picked.append(particles.at(row))
        return Unknowns(*(torch.cat(parts) for parts in zip(*picked, strict=True)))


def answer(channel: GlyphChannel, bank: Bank, size: Size, index: int, seed: int) -> Answer:
    """Of held-out glyph `index` and one draw of its latent."""
    truth = channel.truth(index)
    original = channel.images(truth)
    own = channel.latents(original)
    draws = torch.Generator().manual_seed(derive_seed("latent", seed, index))
    normal = torch.randn(own.mean.shape[1], generator=draws, dtype=torch.float64)
    latent = own.mean[0] + (own.log_variance[0] / 2).exp() * normal
    groups = [_Group(channel, bank, half, latent) for half in (0, 1)]
    start = _truth_start(channel, latent, truth, size, derive_seed("truth", seed, index))
    for attempt in range(size.attempts):
        particles = size.particles * 2**attempt
        for group in groups:
            group.extend(particles, size.sweeps, derive_seed("image", seed, index))
        checks = _checks(channel, groups, start, latent, draws)
        if checks["converged"]:
            break
    numbers = {
        **checks,
        "particles": float(particles),
        "log_evidence": _log_mean([group.log_evidence for group in groups]),
        "log_density_truth": float(own.log_density(latent)[0]),
        "kl_nats": float(0.5 * (own.mean.square() + own.log_variance.exp() - 1 - own.log_variance).sum()),
    }
    means = torch.stack([group.moments.mean[0] for group in groups]) / 255
    shown = channel.images(groups[0].draws(_DRAWS, draws))
    return Answer(original[0], means.float(), channel.decoded(latent, draws), shown, numbers)


def _checks(
    channel: GlyphChannel, groups: list[_Group], start: Moments, latent: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Whether the groups agree with each other, with the start at the truth, and with the latent."""
    both = mixed([group.moments for group in groups], [group.log_evidence for group in groups])
    some = channel.images(groups[0].draws(16, generator)), channel.images(groups[1].draws(16, generator))
    residuals = channel.latents(torch.cat(some)).squares(latent).sum(1)
    between, from_start = disagreement(*(group.moments for group in groups)), disagreement(both, start)
    most = _chi_square_quantile(len(latent))
    agree = between <= _MOST_BETWEEN_GROUPS and from_start <= _MOST_FROM_TRUTH and float(residuals.mean()) <= most
    return {
        "disagreement": between,
        "disagreement_truth": from_start,
        "residual": float(residuals.mean()) / len(latent),
        "variance": both.variance,
        "effective": min(group.effective for group in groups),
        "converged": float(agree),
    }


def _log_mean(values: list[float]) -> float:
    """Log of the mean of numbers that are given by their logarithms."""
    return float(torch.tensor(values, dtype=torch.float64).logsumexp(0)) - math.log(len(values))


def _chi_square_quantile(numbers: int) -> float:
    from scipy.stats import chi2

    return float(chi2.ppf(_LOST, numbers))


def _truth_start(channel: GlyphChannel, latent: Tensor, truth: Unknowns, size: Size, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    sweeps = _TRUTH_SWEEPS * size.sweeps
    run = from_truth(channel.log_likelihood(latent), truth, COUNTS, _TRUTH_PARTICLES, sweeps, generator)
    return moments(channel.images(_kept(run, _TRUTH_WARM_UP)))


def _kept(run: Run, warm_up: float = _WARM_UP) -> Unknowns:
    """The particles of the sweeps that count."""
    chosen = run.history[int(warm_up * len(run.history)) :: _EVERY]
    return Unknowns(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
