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
    bank: Unknowns,
    bank_values: Tensor,
    counts: Sequence[int],
    particles: int,
    sweeps: int,
    generator: torch.Generator,
) -> Run:
    """Run `particles` from a bank of prior draws, with their log likelihoods (B,), to the posterior.

    `sweeps` Metropolis steps of every particle follow, which the history holds.
    """
    power, log_evidence = _first_power(bank_values, 2 * particles), 0.0
    log_evidence += float(_log_mean(power * bank_values))
    smallest = _effective(power * bank_values)
    rows = _resample(power * bank_values, particles, generator)
    state, values = bank.at(rows), bank_values[rows]
    for _ in range(_MOVES):
        state, values = _sweep(log_likelihood, state, values, power, counts, generator)
    while power < 1:
        step = _next_step(values, 1 - power)
        log_evidence += float(_log_mean(step * values))
        smallest = min(smallest, _effective(step * values))
        rows = _resample(step * values, particles, generator)
        state, values, power = state.at(rows), values[rows], power + step if power + step < 1 else 1.0
        for _ in range(_MOVES):
            state, values = _sweep(log_likelihood, state, values, power, counts, generator)
    return _continued(log_likelihood, state, values, counts, sweeps, generator, log_evidence, smallest)


def from_truth(
    log_likelihood: LogLikelihood,
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
    values = log_likelihood(state)
    return _continued(log_likelihood, state, values, counts, sweeps, generator, math.nan, math.nan)


def _continued(
    log_likelihood: LogLikelihood,
    state: Unknowns,
    values: Tensor,
    counts: Sequence[int],
    sweeps: int,
    generator: torch.Generator,
    log_evidence: float,
    smallest: float,
) -> Run:
    trace, history = [], []
    for _ in range(sweeps):
        state, values = _sweep(log_likelihood, state, values, 1.0, counts, generator)
        trace.append(values)
        history.append(state)
    return Run(state, values, log_evidence, smallest, torch.stack(trace), history)


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
        proposed = _propose(Unknowns(choices[mine], places[mine]), places[others], counts, generator)
        new = log_likelihood(proposed)
        luck = torch.rand(len(mine), generator=generator, dtype=torch.float64).log()
        taken = luck < power * (new - values[mine])
        rows = mine[taken]
        choices[rows], places[rows], values[rows] = proposed.choices[taken], proposed.places[taken], new[taken]
    return Unknowns(choices, places), values


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
