import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hfgen.errors import UserError
from hfgen.metrics import active_units, active_units_interval, bits_per_dim, codebook_use, kl_bits
from hfgen.metrics.occupancy import entropy_variance
from hfgen.objectives.reconstruction import LEVEL, gaussian_nll, logistic_nll


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1, 1), (5, 4, 2, 2)])
def test_the_rate_is_torchs_divergence_in_bits(shape: tuple[int, ...]) -> None:
    mean, logvar = normal(*shape), normal(*shape, seed=1)
    oracle = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1) / math.log(2)
    rate = kl_bits(mean, logvar)
    assert rate.shape == (5,) and rate.dtype == torch.float64
    torch.testing.assert_close(rate, oracle.double(), rtol=1e-5, atol=1e-5)


def test_the_prior_costs_nothing() -> None:
    assert kl_bits(torch.zeros(3, 8), torch.zeros(3, 8)).tolist() == [0, 0, 0]


def test_active_units_are_those_that_vary() -> None:
    means = normal(500, 6) * torch.tensor([1, 0.5, 0.2, 0.05, 0.01, 0]) + 3
    assert active_units(means) == active_units(means.reshape(500, 3, 2, 1)) == 3
    estimate = active_units_interval(means)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3, 3), abs=1e-3) and estimate.n == 500


def test_active_units_near_the_threshold_are_uncertain() -> None:
    found = [active_units_interval(0.1 * normal(100, 40, seed=seed)) for seed in range(100)]
    truth = sum(estimate.value for estimate in found) / 100
    assert 85 <= sum(estimate.low <= truth <= estimate.high for estimate in found) <= 99
    assert all(3 < estimate.high - estimate.low < 16 for estimate in found)
    assert active_units_interval(torch.zeros(5, 3)).high == 0


def test_bits_per_dim_of_a_uniform_image_is_8() -> None:
    assert float(bits_per_dim(torch.tensor(-12 * math.log(256)), 12)) == pytest.approx(8)
    # A density of 1/2 on [-1, 1], seen through levels 2/255 apart.
    assert float(bits_per_dim(torch.tensor(-12 * math.log(2)), 12, level=LEVEL)) == pytest.approx(math.log2(255))


def test_a_density_with_dequantisation_costs_about_what_its_levels_do() -> None:
    images = (torch.randint(80, 176, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)) * LEVEL) - 1
    spread = LEVEL * (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    means, variance = torch.zeros_like(images), float(images.var())
    mass = bits_per_dim(-logistic_nll(images, means, variance), 64).mean()
    density = bits_per_dim(-gaussian_nll(images + spread, means, variance), 64, level=LEVEL).mean()
    assert float(density) == pytest.approx(float(mass), abs=0.15)
    assert float(density) == pytest.approx(
        0.5 * math.log2(2 * math.pi * math.e * variance) - math.log2(LEVEL), abs=0.02
    )


def test_the_number_of_active_units_is_held_where_one_alone_is_near_the_threshold() -> None:
    """Its variance is .0108: with as few images it's above .01 in some two thirds of the sets."""
    scale = torch.tensor([1.0, 1.0, 0.104, 0.001])
    found = [active_units_interval(normal(200, 4, seed=seed) * scale) for seed in range(100)]
    truth = sum(estimate.value for estimate in found) / len(found)
    assert 2.5 < truth < 2.95 and all(e.low <= e.value <= e.high <= 4 for e in found)
    assert sum(e.low <= truth <= e.high for e in found) >= 93


def test_codebook_use_knows_even_and_collapsed_codes() -> None:
    even = codebook_use(torch.arange(64).reshape(1, 8, 8).repeat(10, 1, 1), 64)
    assert even.perplexity.value == pytest.approx(64, rel=1e-5) and even.usage.value == 1
    collapsed = codebook_use(torch.zeros(10, 4, 4, dtype=torch.int64), 64)
    assert collapsed.perplexity.value == pytest.approx(1) and collapsed.usage.value == 1 / 64
    assert collapsed.perplexity.low <= 1 <= collapsed.perplexity.high


@pytest.mark.parametrize("tilt", [1.0, 3.0])
def test_the_intervals_of_a_codebooks_use_hold_their_means(tilt: float) -> None:
    """Codes that come in pairs, of which tilted shares leave many unused."""
    shares = torch.softmax(tilt * normal(64), 0)

    def codes(seed: int) -> torch.Tensor:
        draws = torch.Generator().manual_seed(seed)
        drawn = shares.multinomial(60 * 4, replacement=True, generator=draws).reshape(60, 4)
        return torch.cat([drawn, drawn ^ 1], 1)

    estimates = [codebook_use(codes(seed), 64) for seed in range(100)]
    for name in ("perplexity", "usage"):
        found = [getattr(estimate, name) for estimate in estimates]
        truth = sum(estimate.value for estimate in found) / len(found)
        assert sum(e.low <= truth <= e.high for e in found) >= 88


def test_the_perplexitys_interval_holds_its_mean_where_codes_occur_about_once() -> None:
    """1200 codes drawn of 2048: by the first order alone, 15 % of the intervals would miss."""

    def codes(seed: int) -> torch.Tensor:
        drawn = torch.randint(2048, (300, 2), generator=torch.Generator().manual_seed(seed))
        return torch.cat([drawn, drawn ^ 1], 1)

    found = [codebook_use(codes(seed), 2048).perplexity for seed in range(100)]
    truth = sum(estimate.value for estimate in found) / len(found)
    assert sum(e.low <= truth <= e.high for e in found) >= 90


def test_the_entropys_variance_is_the_jackknifes_and_that_of_pairs_of_rows() -> None:
    codes = torch.randint(12, (9, 3), generator=torch.Generator().manual_seed(0))

    def total(without: tuple[int, ...]) -> float:
        kept = [row for row in range(9) if row not in without]
        counts = torch.bincount(codes[kept].flatten(), minlength=12).double()
        return float(torch.special.xlogy(counts, counts).sum())

    left = torch.tensor([math.log(24) - total((i,)) / 24 for i in range(9)], dtype=torch.float64)
    first = 8 * float(left.var(correction=0))
    pairs = [total(()) - total((i,)) - total((j,)) + total((i, j)) for i in range(9) for j in range(i)]
    second = sum(pair**2 for pair in pairs) / 27**2
    assert entropy_variance(codes, 12) == pytest.approx(first**2 / (first + second))


def test_a_codebooks_use_stays_within_the_possible() -> None:
    full = codebook_use(torch.arange(64).reshape(1, 64).repeat(10, 1), 64)
    nearly = codebook_use(torch.arange(62).reshape(1, 62).repeat(10, 1), 64)
    for use in (full, nearly, codebook_use(torch.randint(64, (40, 9)), 64)):
        assert 1 / 64 <= use.usage.low <= use.usage.value <= use.usage.high <= 1
        assert 1 <= use.perplexity.low <= use.perplexity.value <= use.perplexity.high <= 64
    # Nothing says that a code that wasn't seen in ten images is never used.
    assert full.usage.low > 0.99 and nearly.usage.high > 62 / 64


def test_what_has_no_rate_is_refused() -> None:
    for mean, logvar, field in (
        (torch.zeros(2, 3), torch.zeros(2, 4), "logvar: shape"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "mean: shape"),
        (torch.full((2, 3), math.nan), torch.zeros(2, 3), "mean: NaN"),
        (torch.zeros(2, 3), torch.full((2, 3), math.inf), "logvar: NaN or infinity"),
    ):
        with pytest.raises(UserError, match=field):
            kl_bits(mean, logvar)
    with pytest.raises(UserError, match=r"means: shape \(1, 3\)"):
        active_units(torch.zeros(1, 3))
    for dimensions, level in ((0, 1.0), (3, 0.0), (3, math.inf)):
        with pytest.raises(UserError, match="dimensions:"):
            bits_per_dim(torch.zeros(1), dimensions, level=level)
    with pytest.raises(UserError, match="elbo_nats: NaN"):
        bits_per_dim(torch.tensor([math.nan]), 3)
    for codes, field in (
        (torch.zeros(4, 2), "codes: float32"),
        (torch.zeros(3, 2, dtype=torch.int64), "N at least 4"),
        (torch.full((4, 2), 8), "codes: 8 is out of range; give 0 to 7"),
        (torch.full((4, 2), -1), "codes: -1"),
    ):
        with pytest.raises(UserError, match=field):
            codebook_use(codes, 8)
