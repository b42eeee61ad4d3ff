"""The sampler against a Gaussian mixture seen through a linear channel, whose posterior is known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from hfgen.studies.posterior.convergence import Moments, disagreement, effective_size, mixed, moments
from hfgen.studies.posterior.tempered_sampler import Run, Unknowns, _reflect, from_truth, prior_draws, sample

COMPONENTS, NUMBERS, SEEN = 5, 3, 4
DEVIATION, NOISE = 0.7, 0.15
_DRAWS = torch.Generator().manual_seed(0)
MEANS = 2 * torch.randn(COMPONENTS, NUMBERS, generator=_DRAWS, dtype=torch.float64)
MATRIX = torch.randn(SEEN, NUMBERS, generator=_DRAWS, dtype=torch.float64)


def points(unknowns: Unknowns) -> Tensor:
    """Of the mixture: the choice is the component, the places are the Gaussian's quantiles."""
    normal = torch.special.ndtri(unknowns.places.clamp(1e-12, 1 - 1e-12))
    return MEANS[unknowns.choices[:, 0]] + DEVIATION * normal


def likelihood_of(seen: Tensor, noise: float = NOISE):
    def log_likelihood(unknowns: Unknowns) -> Tensor:
        residuals = (seen - points(unknowns) @ MATRIX.T) / noise
        return -0.5 * residuals.square().sum(1) - SEEN * math.log(noise * math.sqrt(2 * math.pi))

    return log_likelihood


def closed_form(seen: Tensor, components: int = COMPONENTS) -> tuple[float, Tensor]:
    """The log evidence, and the posterior's mean, of the first components."""
    covariance = DEVIATION**2 * MATRIX @ MATRIX.T + NOISE**2 * torch.eye(SEEN, dtype=torch.float64)
    gaussian = torch.distributions.MultivariateNormal
    joint = torch.stack([gaussian(MATRIX @ mean, covariance).log_prob(seen) for mean in MEANS[:components]]) - math.log(
        components
    )
    gain = DEVIATION**2 * MATRIX.T @ torch.linalg.inv(covariance)
    means = torch.stack([mean + gain @ (seen - MATRIX @ mean) for mean in MEANS[:components]])
    return float(joint.logsumexp(0)), joint.softmax(0) @ means


def case(seed: int, components: int = COMPONENTS) -> tuple[Unknowns, Tensor, torch.Generator]:
    """Unknowns, what is seen of them, and a generator for the run."""
    generator = torch.Generator().manual_seed(seed)
    truth = prior_draws((components,), NUMBERS, 1, generator)
    seen = (points(truth) @ MATRIX.T)[0] + NOISE * torch.randn(SEEN, generator=generator, dtype=torch.float64)
    return truth, seen, generator


def flat(unknowns: Unknowns) -> Tensor:
    return torch.zeros(len(unknowns.choices), dtype=torch.float64)


def run(seed: int, particles: int, bank: int, guided: bool = True) -> tuple[Run, float, Tensor]:
    """A run, by a guide of three times the noise or by none, and the closed form."""
    _, seen, generator = case(seed)
    guide = likelihood_of(seen, 3 * NOISE) if guided else flat
    start = prior_draws((COMPONENTS,), NUMBERS, bank, generator)
    found = sample(likelihood_of(seen), guide, start, guide(start), (COMPONENTS,), particles, 20, generator)
    return found, *closed_form(seen)


def mean_of(found: Run) -> Tensor:
    return torch.stack([points(state).mean(0) for state in found.history]).mean(0)


def test_guided_particles_give_the_evidence_and_the_mean():
    found = [run(seed, 128, 4000) for seed in range(6)]
    errors = torch.tensor([one.log_evidence - evidence for one, evidence, _ in found])
    assert abs(float(errors.mean())) < 0.25 and float(errors.square().mean().sqrt()) < 0.4
    distances = torch.stack([(mean_of(one) - mean).norm() for one, _, mean in found])
    assert float(distances.mean()) < 0.1 and float(distances.max()) < 0.3
    assert all(one.smallest_sample > 50 and len(one.particles.choices) == 128 for one, _, _ in found)


@pytest.mark.parametrize(("particles", "bank", "guided"), [(8, 30, True), (32, 4000, False)])
def test_few_particles_from_a_small_bank_or_without_a_guide_are_too_few(particles: int, bank: int, guided: bool):
    found = [run(seed, particles, bank, guided) for seed in range(6)]
    errors = torch.tensor([one.log_evidence - evidence for one, evidence, _ in found])
    assert float(errors.square().mean().sqrt()) > 0.6


def test_a_start_at_the_truth_reaches_the_same_mean_where_there_is_one_mode():
    distances = []
    for seed in (1, 5):
        truth, seen, generator = case(seed, components=1)
        guide = likelihood_of(seen, 3 * NOISE)
        found = from_truth(likelihood_of(seen), guide, truth, (1,), 32, 60, generator)
        spread = torch.stack([points(state).mean(0) for state in found.history[20:]]).mean(0)
        distances.append(float((spread - closed_form(seen, components=1)[1]).norm()))
    assert max(distances) < 0.15


def test_without_data_the_draws_are_those_of_the_prior():
    generator = torch.Generator().manual_seed(0)
    bank = prior_draws((4, 3), 2, 500, generator)
    found = sample(flat, flat, bank, flat(bank), (4, 3), 300, 40, generator)
    assert found.log_evidence == pytest.approx(0)
    drawn = Unknowns(*(torch.cat(parts) for parts in zip(*found.history[20:], strict=True)))
    for column, values in enumerate((4, 3)):
        shares = torch.bincount(drawn.choices[:, column], minlength=values) / len(drawn.choices)
        assert shares.tolist() == pytest.approx([1 / values] * values, abs=0.06)
    places = drawn.places
    assert bool(((places >= 0) & (places < 1)).all())
    # Uniform: mean 1/2 and variance 1/12, up to the ends.
    assert places.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert places.var(0).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.01)
    assert float((places < 0.05).double().mean()) == pytest.approx(0.05, abs=0.02)


def test_proposals_beyond_the_ends_come_back():
    assert _reflect(torch.tensor([-0.25, 0.25, 1.25, 2.25, 1.0], dtype=torch.float64)).tolist() == pytest.approx(
        [0.25, 0.25, 0.75, 0.25, 1.0]
    )
    assert float(_reflect(torch.tensor([1.0], dtype=torch.float64))) < 1


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_effective_size_of_autoregressive_chains(correlation: float):
    draws = torch.Generator().manual_seed(0)
    chains = torch.zeros(2000, 4, dtype=torch.float64)
    for step in range(1, 2000):
        chains[step] = correlation * chains[step - 1] + torch.randn(4, generator=draws, dtype=torch.float64)
    expected = 8000 * (1 - correlation) / (1 + correlation)
    assert effective_size(chains) == pytest.approx(expected, rel=0.2)


def test_chains_that_sit_apart_or_still_are_worth_little():
    noise = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert effective_size(noise + 20 * torch.arange(4)) < 8
    assert effective_size(torch.ones(10, 3)) == 1


def test_runs_are_weighted_by_their_evidence_and_agree_where_their_means_do():
    images = torch.randint(0, 255, (50, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    both = moments(images)
    assert both.variance == pytest.approx(float(images.double().var(0, correction=0).sum()))
    assert disagreement(both, both) == 1
    away = Moments(both.mean + 1000, both.variance)
    assert disagreement(both, away) == pytest.approx(math.sqrt(1 + 16 * 1000**2 / 2 / both.variance))
    joined = mixed([both, away], [0.0, -40.0])
    assert torch.allclose(joined.mean, both.mean, atol=1e-6) and joined.variance == pytest.approx(both.variance)
    halves = mixed([both, away], [3.0, 3.0])
    assert halves.variance == pytest.approx(both.variance + 16 * 500**2)
