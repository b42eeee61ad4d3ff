"""The density fitted to latents: what it recovers, draws, and keeps."""

from pathlib import Path

import pytest
import torch

from hfgen.models.hfgen_prior_v1 import LatentPrior


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(prior: LatentPrior, count: int, seed: int = 1) -> torch.Tensor:
    shape, seeded = prior.config.latent_shape, generator(seed)
    return prior.sample(torch.rand(count, generator=seeded), torch.randn(count, *shape, generator=seeded))


def skewed(count: int, seed: int = 0) -> torch.Tensor:
    """Latents (n, 2, 1, 2) of a shifted Gaussian with correlations."""
    mixing = torch.tensor([[2.0, 0, 0, 0], [1, 0.5, 0, 0], [0, 0, 0.1, 0], [0, 1, 0, 1]])
    points = torch.randn(count, 4, generator=generator(seed)) @ mixing.T + torch.tensor([5.0, -3, 0, 1])
    return points.view(count, 2, 1, 2)


def clustered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (n, 2, 1, 1) of two clusters, one of them with a quarter of the points, and whose is whose."""
    small = torch.arange(count) % 4 == 0
    points = torch.randn(count, 2, generator=generator()) * torch.tensor([0.5, 0.1])
    points[small] = points[small].flip(1) + torch.tensor([4.0, -6.0])
    return points.view(count, 2, 1, 1), small


def test_an_unfitted_prior_is_standard_normal():
    prior, latents = LatentPrior((3, 2, 2), components=4), torch.randn(5, 3, 2, 2, generator=generator())
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(latents).flatten(1).sum(1)
    torch.testing.assert_close(prior.log_prob(latents).float(), normal)
    assert torch.equal(prior.sample(torch.rand(5, generator=generator()), latents), latents)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_gaussian_has_the_moments_of_its_latents_and_so_have_its_samples(covariance: str):
    prior, latents = LatentPrior((2, 1, 2), covariance=covariance), skewed(20_000)
    prior.fit(latents)
    flat, drawn = latents.flatten(1), draw(prior, 20_000).flatten(1)
    wanted = flat.T.cov(correction=0) if covariance == "full" else flat.var(0).diag()
    factor = prior.factors[0] if covariance == "full" else prior.factors[0].diag()
    torch.testing.assert_close(prior.means[0], flat.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(factor @ factor.T, wanted, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(drawn.mean(0), flat.mean(0), atol=0.05, rtol=0.02)
    torch.testing.assert_close(drawn.T.cov(), wanted, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_mixture_finds_two_clusters_and_draws_from_both(covariance: str):
    prior = LatentPrior((2, 1, 1), components=2, covariance=covariance)
    latents, small = clustered(4000)
    prior.fit(latents)
    order = prior.weights.argsort()
    torch.testing.assert_close(prior.weights[order], torch.tensor([0.25, 0.75]), atol=1e-3, rtol=0)
    for component, own in zip(order, (small, ~small), strict=True):
        torch.testing.assert_close(prior.means[component], latents[own].flatten(1).mean(0), atol=1e-3, rtol=1e-3)
    drawn = draw(prior, 4000)
    assert (drawn[:, 0, 0, 0] > 2).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert prior.log_prob(drawn).mean().item() == pytest.approx(prior.log_prob(latents).mean().item(), abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_as_likely_as_scikit_learns(seed: int):
    mixture = pytest.importorskip("sklearn.mixture").GaussianMixture(4, random_state=0, reg_covar=1e-9)
    offsets = 4 * torch.randn(4, 2, 1, 2, generator=generator(seed))
    latents = torch.cat([skewed(1000, seed) + offset for offset in offsets])
    prior, flat = LatentPrior((2, 1, 2), components=4), latents.flatten(1).double().numpy()
    prior.fit(latents)
    assert prior.log_prob(latents).mean().item() > mixture.fit(flat).score(flat) - 0.01


def test_log_prob_is_torchs():
    prior, latents = LatentPrior((2, 1, 2), components=3), skewed(500)
    prior.fit(latents)
    parts = torch.distributions.MultivariateNormal(prior.means, scale_tril=prior.factors, validate_args=False)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(prior.weights), parts, validate_args=False
    )
    torch.testing.assert_close(
        prior.log_prob(latents).float(), mixture.log_prob(latents.flatten(1)), rtol=1e-4, atol=1e-4
    )


def test_the_same_latents_give_the_same_bits_whatever_came_before():
    one, two = (LatentPrior((2, 1, 2), components=5) for _ in range(2))
    two.fit(skewed(300, seed=9))
    for prior in (one, two):
        torch.rand(3)
        prior.fit(skewed(300))
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_and_equal_latents_leave_a_density_all_the_same(count: int):
    for latents in (torch.randn(count, 6, 1, 1, generator=generator()), torch.ones(count, 6, 1, 1)):
        prior = LatentPrior((6, 1, 1), components=4)
        prior.fit(latents)
        assert draw(prior, 8).isfinite().all()
        assert prior.weights.sum().item() == pytest.approx(1)


def test_a_uniform_number_inverts_the_weights_distribution_function():
    prior = LatentPrior((1, 1, 1), components=3)
    prior.weights.copy_(torch.tensor([0.5, 0.0, 0.5]))
    prior.means.copy_(torch.tensor([[10.0], [20.0], [30.0]]))
    drawn = prior.sample(torch.tensor([0.0, 0.4999, 0.5, 0.9999]), torch.zeros(4, 1, 1, 1))
    assert drawn.flatten().tolist() == [10, 10, 30, 30]


def test_saved_and_loaded_it_draws_the_same(tmp_path: Path):
    prior = LatentPrior((2, 1, 2), components=3)
    prior.fit(skewed(300))
    prior.save_pretrained(tmp_path)
    loaded, info = LatentPrior.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(draw(loaded, 9), draw(prior, 9))
