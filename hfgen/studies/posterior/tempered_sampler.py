"""Draws from a posterior of few unknowns: tempered sequential Monte Carlo, then Metropolis steps.

The unknowns are choices among finitely many values and places in the unit cube, all uniform a priori; what is known of
them is a log likelihood. Particles start in a bank of draws of the prior, weighted by the likelihood to a small power;
the power rises to 1 by steps that each keep half of the effective sample, with resampling and Metropolis steps between
(Del Moral, Doucet and Jasra 2006, "Sequential Monte Carlo samplers"). Chains from the bank's best alone stay in its
mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Of the effective sample, at each step of the power.
_KEPT = 0.5
_MOVES = 2
# On the guide, which costs next to nothing: so many times the particles, and more steps.
_GUIDED, _GUIDED_MOVES = 4, 4
# Of a proposal: steps on the guide, any of these.
_LENGTHS = (1, 2, 4, 8, 16)
# Standard deviations of local steps: any between these, evenly in their logarithm.
_SCALES = (1e-3, 0.3)
# Shares of the kinds of proposals: around the particle, along the difference of two others, other choices.
_LOCAL, _DIFFERENCE = 0.5, 0.3
# Of a jump along a difference, which is optimal for a Gaussian (ter Braak 2006), or 1, from mode to mode.
_WHOLE_JUMPS = 0.1


class Unknowns(NamedTuple):
    """N values of them: `choices` int64 (N, K), and `places` float64 (N, D) in [0, 1)."""

    choices: Tensor
    places: Tensor

    def at(self, rows: Tensor) -> Unknowns:
        """Some of them."""
        return Unknowns(self.choices[rows], self.places[rows])


LogLikelihood = Callable[[Unknowns], Tensor]
"""Unknowns -> (N,) float64, in nats, up to a constant."""


class Run(NamedTuple):
    """One run of P particles.

    Attributes:
        particles: At its end: draws of the posterior, not independent ones.
        log_likelihoods: Of them, (P,).
        log_evidence: log of the prior's mean likelihood.
        smallest_sample: The least effective sample size before a resampling.
        trace: Log likelihoods after each sweep at the end, (T, P).
        history: The particles after each of these sweeps.
    """

    particles: Unknowns
    log_likelihoods: Tensor
    log_evidence: float
    smallest_sample: float
    trace: Tensor
    history: list[Unknowns]


def prior_draws(counts: Sequence[int], numbers: int, count: int, generator: torch.Generator) -> Unknowns:
    """`count` draws of the prior: choices among `counts` values each, and `numbers` places."""
    choices = [torch.randint(values, (count,), generator=generator) for values in counts]
    places = torch.rand(count, numbers, generator=generator, dtype=torch.float64)
    return Unknowns(torch.stack(choices, 1), places)


def sample(
    log_likelihood: LogLikelihood,
    guide: LogLikelihood,
    bank: Unknowns,
    bank_values: Tensor,
    counts: Sequence[int],
    particles: int,
    sweeps: int,
    generator: torch.Generator,
) -> Run:
    """Run `particles` from a bank of prior draws, with the guide's values there (B,), to the posterior.

    The guide is a cheap guess of the log likelihood: particles reach its posterior first, four times as many, and go on
    to the likelihood's. A guide that knows nothing, 0 everywhere, leaves plain tempering. `sweeps` Metropolis steps of
    every particle follow, which the history holds.
    """
    many, counts = _GUIDED * particles, tuple(counts)
    power, log_evidence = _first_power(bank_values, 2 * many), 0.0
    log_evidence += float(_log_mean(power * bank_values))
    rows = _resample(power * bank_values, many, generator)
    state, values = bank.at(rows), bank_values[rows]
    while True:
        for _ in range(_GUIDED_MOVES):
            state, values = _sweep(guide, state, values, power, counts, generator)
        if power >= 1:
            break
        step = _next_step(values, 1 - power)
        log_evidence += float(_log_mean(step * values))
        rows = _resample(step * values, many, generator)
        state, values, power = state.at(rows), values[rows], power + step if power + step < 1 else 1.0
    steps, smallest = _Steps(log_likelihood, guide, counts, generator), math.inf
    gains, power = log_likelihood(state) - values, 0.0
    while power < 1:
        step = _next_step(gains, 1 - power)
        log_evidence += float(_log_mean(step * gains))
        smallest = min(smallest, _effective(step * gains))
        rows = _resample(step * gains, particles, generator)
        state, values, gains = state.at(rows), values[rows], gains[rows]
        power = power + step if power + step < 1 else 1.0
        for _ in range(_MOVES):
            state, values, gains = steps.sweep(state, values, gains, power)
    return _continued(steps, state, values, gains, sweeps, log_evidence, smallest)


def from_truth(
    log_likelihood: LogLikelihood,
    guide: LogLikelihood,
    truth: Unknowns,
    counts: Sequence[int],
    particles: int,
    sweeps: int,
    generator: torch.Generator,
) -> Run:
    """The second kind of start: all particles where the data are from.

    The truth is an exact draw of the posterior given its data, so that the chain is stationary from its first step;
    but particles that can't leave it copy it, and then look sharper than the posterior's mean is.
    """
    state = truth.at(torch.zeros(particles, dtype=torch.int64))
    values = guide(state)
    gains = log_likelihood(state) - values
    steps = _Steps(log_likelihood, guide, tuple(counts), generator)
    return _continued(steps, state, values, gains, sweeps, math.nan, math.nan)


class _Steps:
    """Metropolis steps on the likelihood whose proposals are several steps on the guide.

    The steps on the guide leave its posterior as it is and are reversible, so that only the likelihood's gain over the
    guide is left in the ratio (Liu 2001, "Monte Carlo strategies in scientific computing", section 9.4.3): proposals
    that the guide rules out cost nothing.
    """

    def __init__(
        self, log_likelihood: LogLikelihood, guide: LogLikelihood, counts: Sequence[int], generator: torch.Generator
    ) -> None:
        self.log_likelihood, self.guide = log_likelihood, guide
        self.counts, self.generator = counts, generator

    def sweep(self, state: Unknowns, values: Tensor, gains: Tensor, power: float) -> tuple[Unknowns, Tensor, Tensor]:
        """One step of every particle; each half proposes by the other, which rests meanwhile."""
        halves = torch.randperm(len(values), generator=self.generator).chunk(2)
        choices, places, values, gains = state.choices.clone(), state.places.clone(), values.clone(), gains.clone()
        for mine, others in (halves, halves[::-1]):
            proposed, guessed = Unknowns(choices[mine], places[mine]), values[mine]
            length = _LENGTHS[int(torch.randint(len(_LENGTHS), (1,), generator=self.generator))]
            for _ in range(length):
                proposed, guessed = _step(
                    self.guide, proposed, guessed, places[others], 1.0, self.counts, self.generator
                )
            moved = (guessed != values[mine]).nonzero()[:, 0]
            luck = torch.rand(len(mine), generator=self.generator, dtype=torch.float64).log()[moved]
            gained = self.log_likelihood(proposed.at(moved)) - guessed[moved] if len(moved) else gains[:0]
            taken = luck < power * (gained - gains[mine[moved]])
            rows, new = mine[moved[taken]], moved[taken]
            choices[rows], places[rows] = proposed.choices[new], proposed.places[new]
            values[rows], gains[rows] = guessed[new], gained[taken]
        return Unknowns(choices, places), values, gains


def _continued(
    steps: _Steps, state: Unknowns, values: Tensor, gains: Tensor, sweeps: int, log_evidence: float, smallest: float
) -> Run:
    trace, history = [], []
    for _ in range(sweeps):
        state, values, gains = steps.sweep(state, values, gains, 1.0)
        trace.append(values + gains)
        history.append(state)
    return Run(state, values + gains, log_evidence, smallest, torch.stack(trace), history)


def _sweep(
    log_likelihood: LogLikelihood,
    state: Unknowns,
    values: Tensor,
    power: float,
    counts: Sequence[int],
    generator: torch.Generator,
) -> tuple[Unknowns, Tensor]:
    """One Metropolis step of every particle; each half proposes by the other, which rests meanwhile."""
    halves = torch.randperm(len(values), generator=generator).chunk(2)
    choices, places, values = state.choices.clone(), state.places.clone(), values.clone()
    for mine, others in (halves, halves[::-1]):
        moved = Unknowns(choices[mine], places[mine])
        moved, values[mine] = _step(log_likelihood, moved, values[mine], places[others], power, counts, generator)
        choices[mine], places[mine] = moved
    return Unknowns(choices, places), values


def _step(
    log_likelihood: LogLikelihood,
    state: Unknowns,
    values: Tensor,
    others: Tensor,
    power: float,
    counts: Sequence[int],
    generator: torch.Generator,
) -> tuple[Unknowns, Tensor]:
    """One Metropolis step of particles beside others, at places (M, D), that rest."""
    proposed = _propose(state, others, counts, generator)
    new = log_likelihood(proposed)
    luck = torch.rand(len(values), generator=generator, dtype=torch.float64).log()
    taken = luck < power * (new - values)
    choices = torch.where(taken[:, None], proposed.choices, state.choices)
    places = torch.where(taken[:, None], proposed.places, state.places)
    return Unknowns(choices, places), torch.where(taken, new, values)


def _propose(state: Unknowns, others: Tensor, counts: Sequence[int], generator: torch.Generator) -> Unknowns:
    """Symmetric proposals, one a particle; `others` (M, D) are places of particles that rest."""
    count, numbers = state.places.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal() -> Tensor:
        return torch.randn(count, numbers, generator=generator, dtype=torch.float64)

    low, high = (math.log(scale) for scale in _SCALES)
    scales = (low + (high - low) * uniform(count, 1)).exp()
    # All places, or one of them.
    alone = torch.nn.functional.one_hot((uniform(count) * numbers).long(), numbers)
    local = scales * normal() * torch.where(uniform(count, 1) < 0.5, alone, 1)
    first, second = (others[(uniform(count) * len(others)).long()] for _ in range(2))
    factor = torch.where(uniform(count, 1) < _WHOLE_JUMPS, 1.0, 2.38 / math.sqrt(2 * numbers))
    difference = factor * (first - second) + _SCALES[0] * normal()
    kind = uniform(count, 1)
    moved = torch.where(kind < _LOCAL, local, torch.where(kind < _LOCAL + _DIFFERENCE, difference, 0.0))
    places = _reflect(state.places + moved)
    drawn = torch.stack([(uniform(count) * values).long() for values in counts], 1)
    # One of the choices, or all of them.
    which = (uniform(count, 1) * (len(counts) + 1)).long()
    changed = (kind >= _LOCAL + _DIFFERENCE) & ((which == torch.arange(len(counts))) | (which == len(counts)))
    return Unknowns(torch.where(changed, drawn, state.choices), places)


def _reflect(places: Tensor) -> Tensor:
    """Back into [0, 1) at its ends, which keeps proposals symmetric."""
    folded = places.remainder(2)
    return torch.where(folded < 1, folded, 2 - folded).clamp(0, 1 - 2**-53)


def _log_mean(values: Tensor) -> Tensor:
    return values.logsumexp(0) - math.log(len(values))


def _effective(values: Tensor) -> float:
    """Effective sample size of log weights: (sum w)^2 / sum w^2."""
    return float((2 * values.logsumexp(0) - (2 * values).logsumexp(0)).exp())


def _first_power(values: Tensor, wanted: int) -> float:
    """The largest power of the likelihood, at most 1, whose weights have the wanted effective sample."""
    return _bisect(lambda power: _effective(power * values) >= min(wanted, len(values) / 2), 1.0)


def _next_step(values: Tensor, most: float) -> float:
    return _bisect(lambda step: _effective(step * values) >= _KEPT * len(values), most)


def _bisect(holds: Callable[[float], bool], most: float) -> float:
    """The largest number up to `most` at which it holds, which it does near 0."""
    if holds(most):
        return most
    low, high = math.log(1e-12), math.log(most)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(low)


def _resample(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows (count,) in proportion to log weights: systematic resampling."""
    shares = (values - values.logsumexp(0)).exp().cumsum(0)
    points = (
        torch.arange(count, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)
    ) / count
    return torch.searchsorted(shares / shares[-1], points).clamp_max(len(values) - 1)
