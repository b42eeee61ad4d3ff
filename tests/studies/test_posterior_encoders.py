"""What an encoder says: codes whose posterior is known in closed form, and the regression that guesses statistics."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hfgen.studies.posterior.encoders import CodeEncoder
from hfgen.studies.posterior.latent_regression import LatentRegression, spread_places
from hfgen.studies.posterior.tempered_sampler import Unknowns, prior_draws, sample

LEVELS = 8


def quantiser() -> CodeEncoder:
    """Codes at the middles of equal parts of [0, 1]."""
    weight = ((torch.arange(LEVELS) + 0.5) / LEVELS)[:, None]
    network = SimpleNamespace(quantize=SimpleNamespace(embedding=SimpleNamespace(weight=weight)))
    return CodeEncoder(SimpleNamespace(autoencoding_network=network))


def test_the_posterior_of_codes_is_exact_after_tempering():
    # Two numbers, uniform a priori, each said by a code: the posterior is uniform in a square of side 1/8.
    encoder, latent = quantiser(), torch.tensor([2, 6])

    def log_likelihood(unknowns: Unknowns) -> Tensor:
        return encoder.log_density(unknowns.places, latent)

    def guide(unknowns: Unknowns) -> Tensor:
        return encoder.log_guess(unknowns.places, torch.full_like(unknowns.places, 0.1**2), latent)

    generator = torch.Generator().manual_seed(0)
    bank = prior_draws((1,), 2, 500, generator)
    run = sample(log_likelihood, guide, bank, guide(bank), (1,), 200, 40, generator)
    exact = encoder.exact(run.trace.flatten())
    drawn = torch.cat([state.places for state in run.history])
    inside = ((drawn * LEVELS).long() == latent).all(1)
    assert torch.equal(exact, inside) and 0.5 < float(exact.double().mean()) < 1
    share = math.log(float(exact.double().mean()))
    assert run.log_evidence + share == pytest.approx(-2 * math.log(LEVELS), abs=0.3)
    kept = drawn[exact] * LEVELS - latent
    assert kept.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert kept.var(0).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.02)


def test_codes_that_are_nearest_have_probability_1_and_others_less_with_distance():
    encoder = quantiser()
    (latent,) = (encoder.draw(torch.tensor([[0.3, 0.77]], dtype=torch.float64), torch.Generator()),)
    assert latent.tolist() == [2, 6]
    values = encoder.log_density(torch.tensor([[0.3, 0.77], [0.3, 0.70], [0.3, 0.5]], dtype=torch.float64), latent)
    assert values[0] == 0 > values[1] > values[2]
    # By hand: (.05 - .1125)(.05 + .1125) from .7, and T = .02 / 64.
    assert float(values[1]) == pytest.approx(-(0.1125**2 - 0.0125**2) * 64 / 0.02)


def statistics(choices: Tensor, places: Tensor) -> Tensor:
    """Smooth in the places, with a jump between choices."""
    first = choices[:, 0] * 5 + torch.sin(2 * places[:, 0]) * places[:, 1]
    return torch.stack([first, choices[:, 1] - places[:, 1].square()], 1)


def test_the_regression_predicts_within_its_own_doubt():
    counts, places = (2, 3), spread_places(40, 2, seed=1)
    combinations = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    seen = torch.stack([statistics(row.expand(40, -1), places) for row in combinations])
    regression = LatentRegression(counts, places, seen)
    unknowns = prior_draws(counts, 2, 200, torch.Generator().manual_seed(0))
    values, doubt = regression.predict(unknowns)
    errors = values - statistics(*unknowns)
    assert float(errors.abs().max()) < 0.03
    # The errors are those it expects: their mean square in expected variances is near 1.
    assert 0.1 < float((errors.square() / doubt).mean()) < 4
    everywhere, predicted, doubts = regression.everywhere(unknowns.places[:5])
    again = regression.predict(everywhere)
    assert torch.allclose(predicted, again[0]) and torch.allclose(doubts, again[1]) and len(predicted) == 30


def test_points_are_spread_evenly_and_depend_on_the_seed():
    places = spread_places(64, 4, seed=3)
    assert torch.equal(places, spread_places(64, 4, seed=3)) and not torch.equal(places, spread_places(64, 4, seed=4))
    # Sobol's points: as many in each half of each coordinate.
    assert ((places < 0.5).sum(0) == 32).all() and float(places.max()) < 1
