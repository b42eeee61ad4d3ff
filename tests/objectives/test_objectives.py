"""Losses against closed forms and references."""

import math

import pytest
import torch
from sizes import LargestTensor
from torch import nn

from hfgen.objectives import codebook as codebook_module
from hfgen.objectives.adversarial import (
    ADVERSARIAL_LOSSES,
    adaptive_weight,
    gradient_penalty,
    hinge_loss,
    nonsaturating_loss,
    relativistic_loss,
)
from hfgen.objectives.codebook import CodebookAverage, nearest_codes, perplexity, product_grid, quantise
from hfgen.objectives.kl import kl_above, kl_per_channel, kl_to_standard_normal
from hfgen.objectives.reconstruction import LearnedVariance, gaussian_nll, laplace_nll, logistic_nll, optimal_variance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_nll_is_torchs_negative_log_probability():
    images, means = (
        torch.randn(3, 1, 4, 4, generator=generator()),
        torch.randn(3, 1, 4, 4, generator=generator(1)),
    )
    reference = -torch.distributions.Normal(means, math.sqrt(0.3)).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_nll(images, means, 0.3), reference)


def test_kl_is_torchs_and_diffusers_kl():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    mean, log_variance = torch.randn(2, 5, 4, 2, 2, generator=generator())
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    reference = torch.distributions.kl_divergence(normal, standard).flatten(1).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), reference)
    stock = DiagonalGaussianDistribution(torch.cat([mean, log_variance], 1)).kl()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), stock)


def test_relativistic_loss_is_log_2_for_a_blind_discriminator_and_falls_with_the_margin():
    scores = torch.zeros(4)
    assert relativistic_loss(scores, scores).item() == pytest.approx(math.log(2))
    assert relativistic_loss(scores + 3, scores).item() == pytest.approx(math.log1p(math.exp(-3)))


def test_gradient_penalty_of_a_linear_score_is_its_squared_weight():
    weight = torch.randn(12, generator=generator(), requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, torch.randn(5, 3, 2, 2, generator=generator(1)))
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight)


def test_gradient_penalty_is_computed_in_fp32_under_autocast():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    images = torch.randn(5, 3, 2, 2, generator=generator())
    exact = gradient_penalty(lambda x: network(x).squeeze(1), images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gradient_penalty(lambda x: network(x).squeeze(1), images), exact)


def test_many_distances_are_held_in_parts(monkeypatch: pytest.MonkeyPatch):
    vectors, codebook = torch.randn(1000, 4, generator=generator()), torch.randn(64, 4, generator=generator(1))
    whole = nearest_codes(vectors, codebook)
    monkeypatch.setattr(codebook_module, "_DISTANCES", 64 * 100)
    with LargestTensor() as largest:
        assert torch.equal(nearest_codes(vectors, codebook), whole)
    assert largest.bytes <= 4 * 64 * 100


def test_quantise_picks_the_code_that_the_stock_quantiser_picks():
    from diffusers.models.autoencoders.vae import VectorQuantizer

    stock = VectorQuantizer(32, 6, beta=0.25, legacy=False)
    nn.init.normal_(stock.embedding.weight)
    latents = torch.randn(3, 6, 4, 4, generator=generator())
    reference, _, (_, _, codes) = stock(latents)
    ours = quantise(latents, stock.embedding.weight)
    assert torch.equal(ours.codes.flatten(), codes)
    torch.testing.assert_close(ours.latents, reference)


def test_commitment_moves_the_encoder_only_and_the_gradient_passes_straight_through():
    latents = torch.randn(2, 3, 2, 2, generator=generator(), requires_grad=True)
    codebook = torch.randn(8, 3, generator=generator(1), requires_grad=True)
    quantised = quantise(latents, codebook)
    (gradient,) = torch.autograd.grad(quantised.latents.sum(), latents, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(latents))
    quantised.commitment.backward()
    assert latents.grad.abs().sum() > 0 and codebook.grad is None


def test_bf16_latents_get_the_codes_of_fp32_distances():
    latents = torch.randn(8, 4, 8, 8, generator=generator()).bfloat16()
    codebook = torch.randn(64, 4, generator=generator(1))
    with torch.autocast("cpu", torch.bfloat16):
        codes = quantise(latents, codebook).codes
    assert torch.equal(codes, quantise(latents.float(), codebook).codes)


def test_codebook_average_converges_to_the_clusters_of_its_codes_and_revives_dead_ones():
    centres = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
    codebook = torch.full((12, 2), 100.0)
    codebook[0] = 0.0  # every latent starts on one code; all others are dead
    average, draws = CodebookAverage(12, 2), generator()
    for _ in range(60):
        latents = centres.repeat(16, 1) + 0.1 * torch.randn(64, 2, generator=draws)
        codes = torch.cdist(latents, codebook).argmin(1)
        average.update(codebook, latents, codes, torch.randint(64, (12,), generator=draws), decay=0.8)
    distance = torch.cdist(centres, codebook).min(1).values
    assert distance.max() < 0.2
    assert perplexity(torch.cdist(latents, codebook).argmin(1), 12) > 6


@pytest.mark.parametrize("used", [1, 4, 16])
def test_perplexity_counts_evenly_used_codes(used: int):
    assert perplexity(torch.arange(64) % used, 16).item() == pytest.approx(used, rel=1e-5)


def test_laplace_nll_is_torchs_at_the_same_variance():
    images, medians = torch.randn(2, 3, 1, 4, 4, generator=generator())
    reference = torch.distributions.Laplace(medians, math.sqrt(0.3 / 2))
    assert reference.variance.flatten()[0].item() == pytest.approx(0.3)
    torch.testing.assert_close(laplace_nll(images, medians, 0.3), -reference.log_prob(images).flatten(1).sum(1))


@pytest.mark.parametrize(
    ("real", "fake", "loss"),
    [([0.0, 0.0], [0.0, 0.0], 1.0), ([1.0, 3.0], [-1.0, -9.0], 0.0), ([0.5, 2.0], [-3.0, 1.0], 0.5 * (0.25 + 1.0))],
)
def test_hinge_loss_is_1_for_a_blind_discriminator_and_0_beyond_the_margins(
    real: list[float], fake: list[float], loss: float
):
    assert hinge_loss(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(loss)


def test_nonsaturating_loss_is_torchs_binary_cross_entropy():
    real, fake = torch.randn(2, 6, generator=generator())
    reference = nn.functional.binary_cross_entropy_with_logits
    expected = reference(real, torch.ones(6)) + reference(fake, torch.zeros(6))
    torch.testing.assert_close(nonsaturating_loss(real, fake), expected)
    torch.testing.assert_close(
        ADVERSARIAL_LOSSES["nonsaturating"].generator(real, fake), reference(fake, torch.ones(6))
    )


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        ("relativistic", math.log1p(math.e**2), -1 / (1 + math.e**-2)),
        ("hinge", 1.0, -1.0),
        ("nonsaturating", None, None),
    ],
)
def test_generators_losses_fall_as_fakes_score_higher(name: str, value: float | None, slope: float | None):
    real, fake = torch.ones(4), torch.full((4,), -1.0, requires_grad=True)
    loss = ADVERSARIAL_LOSSES[name].generator(real, fake)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert loss.item() == pytest.approx(math.log1p(math.e) if value is None else value)
    assert gradient.sum().item() == pytest.approx(-1 / (1 + math.exp(-1)) if slope is None else slope)


def test_adaptive_weight_is_the_ratio_of_the_gradients_norms_and_takes_no_gradient():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    nll, adversarial = (weight * torch.tensor([3.0, 4.0])).sum(), (weight * torch.tensor([0.0, -2.0])).sum()
    factor = adaptive_weight(nll, adversarial, weight, lambda tensor: tensor)
    assert factor.item() == pytest.approx(5 / (2 + 1e-4)) and not factor.requires_grad
    (nll + factor * adversarial).backward()
    torch.testing.assert_close(weight.grad, torch.tensor([3.0, 4.0 - 2 * factor.item()]))


def test_adaptive_weight_over_processes_is_that_of_the_mean_gradient():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    elsewhere = iter([torch.tensor([[-1.0, 12.0]]), torch.tensor([[-2.0, 0.0]])])
    nll, adversarial = (weight * torch.tensor([7.0, -4.0])).sum(), (weight * torch.tensor([0.0, -2.0])).sum()
    factor = adaptive_weight(nll, adversarial, weight, lambda tensor: torch.cat([tensor, next(elsewhere)]))
    assert factor.item() == pytest.approx(5 / (math.sqrt(2) + 1e-4))


@pytest.mark.parametrize(("scale", "bounded"), [(0.5, math.sqrt(0.5) / 1e-4), (100.0, 1e4)])
def test_adaptive_weight_against_a_flat_discriminator_is_bounded(scale: float, bounded: float):
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    factor = adaptive_weight(scale * weight.sum(), (0 * weight).sum(), weight, lambda tensor: tensor)
    assert factor.item() == pytest.approx(bounded)


def levels(*shape: int) -> torch.Tensor:
    """Images of the 256 levels in [-1, 1], the outer two among them."""
    values = torch.randint(256, shape, generator=generator(7))
    values.view(-1)[:2] = torch.tensor([0, 255])
    return values.double() / 127.5 - 1


@pytest.mark.parametrize("mean", [-1.4, -1.0, 0.03, 0.999, 3.0])
@pytest.mark.parametrize("variance", [1e-6, 0.02, 1.0])
def test_the_logistic_masses_of_the_256_levels_sum_to_1(mean: float, variance: float):
    every = torch.arange(256).double().view(256, 1, 1, 1) / 127.5 - 1
    masses = (-logistic_nll(every, torch.full_like(every, mean), variance)).exp()
    assert masses.sum().item() == pytest.approx(1, abs=1e-5)


def test_logistic_nll_is_the_difference_of_its_distribution_function_and_has_its_variance():
    images, means = levels(3, 1, 4, 4), torch.randn(3, 1, 4, 4, generator=generator(1)).double()
    scale = math.sqrt(3 * 0.3) / math.pi
    upper, lower = (torch.sigmoid((images + side / 255 - means.float()) / scale) for side in (1, -1))
    upper, lower = torch.where(images == 1, 1.0, upper), torch.where(images == -1, 0.0, lower)
    torch.testing.assert_close(logistic_nll(images, means, 0.3), -(upper - lower).log().flatten(1).sum(1))
    samples = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(0.0, 1.0), [torch.distributions.SigmoidTransform().inv]
    ).icdf(torch.linspace(5e-7, 1 - 5e-7, 10**6, dtype=torch.float64))
    assert (scale * samples).var().item() == pytest.approx(0.3, rel=1e-3)


def test_logistic_nll_stays_finite_and_so_does_its_gradient_where_a_mass_underflows():
    means = torch.tensor([-50.0, 50.0, -1.0, 1.0]).view(1, 1, 2, 2).requires_grad_(True)
    loss = logistic_nll(torch.tensor([1.0, -1.0, 0.0, 1 / 255]).view(1, 1, 2, 2), means, 1e-6)
    loss.sum().backward()
    assert loss.isfinite().all() and means.grad.isfinite().all()


def test_a_learned_variance_ends_at_the_error_from_a_hundredfold_start():
    images, means = torch.randn(2, 16, 1, 4, 4, generator=generator()) * 0.1
    variance = LearnedVariance(1.0)
    assert variance().item() == pytest.approx(1)
    optimizer = torch.optim.Adam(variance.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        (gaussian_nll(images, means, variance()).mean() / 16).backward()
        optimizer.step()
    assert variance().item() == pytest.approx((images - means).square().mean().item(), rel=1e-3)


def test_a_calibrated_variance_is_the_error_of_the_whole_batch_and_the_lowest_nll():
    images, means = torch.randn(2, 6, 1, 4, 4, generator=generator())
    means.requires_grad_(True)
    variance = optimal_variance(images, means, lambda tensor: tensor)
    mse = (images - means).square().mean()
    assert variance.item() == pytest.approx(mse.item()) and not variance.requires_grad
    lowest = gaussian_nll(images, means, variance).mean()
    assert lowest < min(gaussian_nll(images, means, variance * factor).mean() for factor in (0.9, 1.1))
    # Sigma-VAE's D/2 log MSE has the same gradient.
    (ours,), (theirs,) = (torch.autograd.grad(loss, means, retain_graph=True) for loss in (lowest, 8 * mse.log()))
    torch.testing.assert_close(ours, theirs)
    elsewhere = (images - means)[3:].square().mean((1, 2, 3))
    share = optimal_variance(images[:3], means[:3], lambda own: torch.cat([own, elsewhere]))
    torch.testing.assert_close(share, variance)
    assert optimal_variance(images, images, lambda tensor: tensor).item() == pytest.approx((2 / 255) ** 2 / 12)


def test_free_bits_charge_a_channel_only_above_the_floor():
    mean, log_variance = torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)
    mean[:, 1], mean[:, 2] = 0.1, 2.0
    mean.requires_grad_(True)
    kl = kl_per_channel(mean, log_variance)
    torch.testing.assert_close(kl.sum(1), kl_to_standard_normal(mean, log_variance))
    cost = kl_above(kl, 0.5, lambda tensor: tensor)
    assert cost.item() == pytest.approx(0.5 + 0.5 + 4 * 2.0)
    cost.backward()
    assert not mean.grad[:, :2].any()
    torch.testing.assert_close(mean.grad[:, 2], mean.detach()[:, 2] / 4)
    assert kl_above(kl, 0.0, lambda tensor: tensor).item() == pytest.approx(kl.sum(1).mean().item())


def test_free_bits_over_processes_are_those_of_the_whole_batch():
    # Half of the batch alone lies above the floor, the whole of it below.
    kl = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.0, 9.0], [0.0, 9.0]], requires_grad=True)
    whole = kl_above(kl, 0.5, lambda tensor: tensor)
    shares = [kl_above(half, 0.5, lambda tensor: kl.detach()) for half in (kl[:2], kl[2:])]
    assert sum(share.item() for share in shares) / 2 == pytest.approx(whole.item())
    (one,), (two,) = (torch.autograd.grad(loss, kl, retain_graph=True) for loss in (whole, sum(shares) / 2))
    torch.testing.assert_close(one, two)
    assert not one[:, 0].any() and one[:, 1].all()


@pytest.mark.parametrize("levels", [(5,), (8, 6, 5), (3, 2, 2, 4)])
def test_the_nearest_code_of_a_grid_is_each_coordinate_clamped_and_rounded(levels: tuple[int, ...]):
    grid = product_grid(levels)
    assert grid.shape == (math.prod(levels), len(levels)) and len(grid.unique(dim=0)) == len(grid)
    latents = 1.5 * torch.randn(4, len(levels), 8, 8, generator=generator())
    steps = (torch.tensor(levels) - 1).view(-1, 1, 1) / 2
    expected = ((latents.clamp(-1, 1) + 1) * steps).round() / steps - 1
    torch.testing.assert_close(quantise(latents, grid).latents, expected)


def test_a_restart_leaves_used_codes_to_their_averages():
    codebook = torch.randn(8, 3, generator=generator())
    latents, codes = torch.randn(64, 3, generator=generator(1)), torch.arange(64) % 5
    moved = []
    for picks in (torch.arange(8), torch.arange(40, 48)):
        average, copy = CodebookAverage(8, 3), codebook.clone()
        average.counts.fill_(8.0)
        average.totals.copy_(8 * codebook)
        average.counts[5:] = 0.1
        average.update(copy, latents, codes, picks, decay=0.9)
        torch.testing.assert_close(copy[5:], latents[picks[5:]])
        moved.append(copy[:5])
    assert torch.equal(*moved)
    means = torch.stack([latents[codes == code].mean(0) for code in range(5)])
    counts = torch.bincount(codes)[:5, None]
    torch.testing.assert_close(moved[0], (7.2 * codebook[:5] + 0.1 * counts * means) / (7.2 + 0.1 * counts))


def test_usage_is_the_share_of_codes_taken_lately():
    average = CodebookAverage(8, 3)
    assert average.usage(10) == 0
    average.see(torch.tensor([0, 1, 1, 0]))
    average.see(torch.tensor([2]))
    assert [average.usage(updates).item() for updates in (1, 2)] == [1 / 8, 3 / 8]
    for _ in range(5):
        average.see(torch.tensor([7]))
    assert [average.usage(updates).item() for updates in (5, 6, 7)] == [1 / 8, 2 / 8, 4 / 8]


def test_a_codebook_of_16384_codes_is_averaged_without_a_number_for_each_pair():
    size, dimension, latents = 16_384, 4, 4_096
    draws = torch.Generator().manual_seed(0)
    vectors, codes = torch.randn(latents, dimension, generator=draws), torch.randint(size, (latents,), generator=draws)
    average, codebook = CodebookAverage(size, dimension), torch.zeros(size, dimension)
    with LargestTensor() as largest:
        average.update(codebook, vectors, codes, torch.zeros(size, dtype=torch.int64), decay=0.0)
    assert largest.bytes <= 8 * size * dimension
    code = int(codes[0])
    assert torch.allclose(codebook[code], vectors[codes == code].mean(0), atol=1e-6)
