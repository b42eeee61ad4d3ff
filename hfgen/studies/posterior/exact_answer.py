"""One held-out glyph and one draw of its latent -> the exact E[x | z], draws of x given z, and whether runs agree."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from hfgen.seeds import derive_seed
from hfgen.studies.posterior.convergence import Moments, disagreement, effective_size, mixed, moments
from hfgen.studies.posterior.encoders import Encoder
from hfgen.studies.posterior.glyph_channel import COUNTS, PLACES, GlyphChannel
from hfgen.studies.posterior.latent_regression import LatentRegression, spread_places
from hfgen.studies.posterior.tempered_sampler import LogLikelihood, Run, Unknowns, from_truth, sample

# Runs whose means differ by more than their variance allows haven't converged: bounds for R.
_MOST_BETWEEN_GROUPS, _MOST_FROM_TRUTH = 1.1, 1.2
# Of chi^2: a latent's residual at a draw of its posterior has the law of that at the truth.
_LOST = 0.999
_DRAWS = 4
_BANK = 32
# Powers of the guess in a group's first, second, ... run: where it is wrong, later runs rely on it less.
_TRUST = (0.5, 0.3, 0.15)
# Of the evidence of a run without one exact draw: less than that of any other.
_NONE = -1e9
# Of the sweeps at the end: the first share is left out, and of the others every so manyth counts. From the truth, where
# all particles begin alike, it takes longer until they have spread.
_WARM_UP, _TRUTH_WARM_UP, _EVERY = 0.25, 0.5, 3
_TRUTH_PARTICLES, _TRUTH_SWEEPS = 16, 4


class Size(NamedTuple):
    """Of the sampling.

    `points` glyphs of each class and font, from which the encoder is guessed; `particles` of a group's first run;
    `attempts`: runs of a group, each of twice as many particles, until the groups agree; `sweeps` of Metropolis steps
    at the end of a run.
    """

    points: int
    particles: int
    sweeps: int
    attempts: int


class Guess(NamedTuple):
    """A regression of the encoder, and what it predicts of `_BANK` draws of each class and font."""

    regression: LatentRegression
    unknowns: Unknowns
    statistics: Tensor
    doubt: Tensor

    def bank_values(self, encoder: Encoder, latent: Tensor) -> Tensor:
        """The guessed log likelihoods of all these draws."""
        return encoder.log_guess(self.statistics, self.doubt, latent)

    def guide(self, encoder: Encoder, latent: Tensor, trust: float) -> LogLikelihood:
        """The same as a function of the unknowns, to a power."""
        return lambda unknowns: trust * encoder.log_guess(*self.regression.predict(unknowns), latent)


def guess_of(regression: LatentRegression, seed: int) -> Guess:
    """With a bank that all images share."""
    places = spread_places(_BANK, PLACES, derive_seed("bank", seed))
    return Guess(regression, *regression.everywhere(places))


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


class _Group:
    """Runs that share the guess of the encoder alone with those of other groups, weighted by their evidence."""

    def __init__(self, channel: GlyphChannel, guess: Guess, number: int, latent: Tensor, values: Tensor) -> None:
        self.channel, self.guess, self.number, self.latent, self.values = channel, guess, number, latent, values
        self.runs: list[Run] = []
        self.kept: list[_Kept] = []

    def extend(self, particles: int, sweeps: int, seed: int) -> None:
        """Make one more run."""
        encoder = self.channel.encoder
        trust = _TRUST[min(len(self.runs), len(_TRUST) - 1)]
        target, guide = self.channel.log_likelihood(self.latent), self.guess.guide(encoder, self.latent, trust)
        generator = torch.Generator().manual_seed(derive_seed("run", seed, self.number, len(self.runs)))
        run = sample(target, guide, self.guess.unknowns, trust * self.values, COUNTS, particles, sweeps, generator)
        self.runs.append(run)
        self.kept.append(_kept(self.channel, run))

    @property
    def evidences(self) -> list[float]:
        return [run.log_evidence + kept.log_share for run, kept in zip(self.runs, self.kept, strict=True)]

    @property
    def shares(self) -> Tensor:
        return torch.tensor(self.evidences, dtype=torch.float64).softmax(0)

    @property
    def moments(self) -> Moments:
        return mixed([kept.moments for kept in self.kept], self.evidences)

    @property
    def log_evidence(self) -> float:
        """Log of the mean evidence."""
        return _log_mean(self.evidences)

    @property
    def effective(self) -> float:
        """Of the log likelihood; relatives by resampling count as independent chains."""
        sizes = torch.tensor([effective_size(run.trace) for run in self.runs], dtype=torch.float64)
        return float(1 / (self.shares.square() / sizes).sum())

    def draws(self, count: int, generator: torch.Generator) -> Unknowns:
        """Some of the kept particles."""
        picked = []
        for number in torch.multinomial(self.shares, count, replacement=True, generator=generator).tolist():
            unknowns = self.kept[number].unknowns
            picked.append(unknowns.at(torch.randint(len(unknowns.choices), (1,), generator=generator)))
        return Unknowns(*(torch.cat(parts) for parts in zip(*picked, strict=True)))


def answer(channel: GlyphChannel, guess: Guess, size: Size, index: int, seed: int) -> Answer:
    """Of held-out glyph `index` and one draw of its latent."""
    truth, encoder = channel.truth(index), channel.encoder
    original = channel.images(truth)
    own = encoder.statistics(original)
    draws = torch.Generator().manual_seed(derive_seed("latent", seed, index))
    latent = encoder.draw(own, draws)
    values = guess.bank_values(encoder, latent)
    groups = [_Group(channel, guess, number, latent, values) for number in (0, 1)]
    start = _truth_start(channel, guess, latent, truth, size, derive_seed("truth", seed, index))
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
        "log_density_truth": float(encoder.log_density(own, latent)[0]),
        "kl_nats": encoder.rate_nats(own),
    }
    means = torch.stack([group.moments.mean[0] for group in groups]) / 255
    shown = channel.images(groups[0].draws(_DRAWS, draws))
    return Answer(original[0], means.float(), encoder.decoded(latent, draws), shown, numbers)


def latent_of(channel: GlyphChannel, index: int, seed: int) -> Tensor:
    """The latent that `answer` drew."""
    draws = torch.Generator().manual_seed(derive_seed("latent", seed, index))
    return channel.encoder.draw(channel.statistics(channel.truth(index)), draws)


def _checks(
    channel: GlyphChannel, groups: list[_Group], start: _Kept, latent: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Whether the groups agree with each other, with the start at the truth, and with the latent."""
    both = mixed([group.moments for group in groups], [group.log_evidence for group in groups])
    some = [channel.statistics(group.draws(16, generator)) for group in groups]
    residual = float(channel.encoder.squares(torch.cat(some), latent).mean())
    between, from_start = disagreement(*(group.moments for group in groups)), disagreement(both, start.moments)
    agree = between <= _MOST_BETWEEN_GROUPS and from_start <= _MOST_FROM_TRUTH
    agree = agree and residual <= _chi_square_quantile(len(latent))
    # Without one draw that has the codes nothing is known.
    agree = agree and all(group.log_evidence > _NONE / 2 for group in groups)
    return {
        "disagreement": between,
        "disagreement_truth": from_start,
        "residual": residual / len(latent),
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


def _truth_start(channel: GlyphChannel, guess: Guess, latent: Tensor, truth: Unknowns, size: Size, seed: int) -> _Kept:
    generator = torch.Generator().manual_seed(seed)
    target, guide = channel.log_likelihood(latent), guess.guide(channel.encoder, latent, _TRUST[0])
    sweeps = _TRUTH_SWEEPS * size.sweeps
    run = from_truth(target, guide, truth, COUNTS, _TRUTH_PARTICLES, sweeps, generator)
    return _kept(channel, run, _TRUTH_WARM_UP)


class _Kept(NamedTuple):
    """The draws of a run that count: those of sweeps after the warm-up, and of the exact posterior.

    `log_share`: of the part of them that is exact, which the evidence is to be multiplied by.
    """

    unknowns: Unknowns
    moments: Moments
    log_share: float


def _kept(channel: GlyphChannel, run: Run, warm_up: float = _WARM_UP) -> _Kept:
    chosen = slice(int(warm_up * len(run.history)), None, _EVERY)
    unknowns = Unknowns(*(torch.cat(parts) for parts in zip(*run.history[chosen], strict=True)))
    exact = channel.encoder.exact(run.trace[chosen].flatten())
    share = float(exact.double().mean())
    if share > 0:
        unknowns = unknowns.at(exact)
    return _Kept(unknowns, moments(channel.images(unknowns)), math.log(share) if share > 0 else _NONE)
