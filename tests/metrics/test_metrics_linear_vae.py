"""The one VAE whose optimum is known: linear encoder and decoder (Lucas et al., 1911.02469), trained with ours."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from hfgen.families.vae import VAE
from hfgen.metrics import active_units, bits_per_dim, kl_bits, mse
from hfgen.objectives.reconstruction import gaussian_nll
from hfgen.training.phases import Draws, Step

EIGENVALUES = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.02, 0.01], dtype=torch.float64)
VARIANCE = 0.05
IMAGES = 4096


class Linear(nn.Module):
    """An `AutoencoderKL` of two matrices, on images of 2 x 3 pixels."""

    def __init__(self) -> None:
        super().__init__()
        start = 0.3 * torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(1))
        self.encoder, self.decoder = nn.Parameter(start[0]), nn.Parameter(start[1])
        self.log_variance = nn.Parameter(torch.full((6,), -1.0))

    def encode(self, images: Tensor) -> SimpleNamespace:
        means = images.flatten(1) @ self.encoder.T
        moments = torch.cat([means, self.log_variance.expand_as(means)], 1)
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(moments[:, :, None, None]))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=(latents.flatten(1) @ self.decoder.T).unflatten(1, (1, 2, 3)))


def rotation() -> Tensor:
    return torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Gaussian data whose second moments are exactly the ones above, in a rotated basis."""
    draws = torch.randn(IMAGES, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = draws - draws.mean(0)
    left, _, _ = torch.linalg.svd(draws, full_matrices=False)
    data = left * IMAGES**0.5 * EIGENVALUES.sqrt() @ rotation().T
    return data.float().reshape(IMAGES, 1, 2, 3)


@pytest.fixture(scope="module")
def vae(images: Tensor) -> Linear:
    vae, steps = Linear(), 1500
    [phase] = VAE(likelihood="gaussian", variance=VARIANCE, kl_warmup=0.0).phases()
    optimiser = torch.optim.Adam(vae.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for index in range(steps):
        draws = Draws(0, index, torch.device("cpu"))
        batch = images[index % 4 :: 4]
        loss = phase.loss({"vae": vae}, Step(batch, None, draws, {}, index, index / steps))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        schedule.step()
    return vae.eval()


@torch.no_grad()
def outputs(vae: Linear, images: Tensor) -> tuple[DiagonalGaussianDistribution, Tensor]:
    """The posterior, and reconstructions of samples of it, 16 an image."""
    posterior = vae.encode(images.repeat(16, 1, 1, 1)).latent_dist
    return posterior, vae.decode(posterior.sample(torch.Generator().manual_seed(3))).sample


def test_the_distortion_is_the_smaller_of_eigenvalue_and_variance(vae: Linear, images: Tensor) -> None:
    _, reconstructions = outputs(vae, images)
    expected = EIGENVALUES.clamp_max(VARIANCE)
    real = images.repeat(16, 1, 1, 1)
    assert float(mse(real, reconstructions).mean()) == pytest.approx(float(expected.mean()), rel=0.01)
    errors = (real - reconstructions).flatten(1).double() @ rotation()
    torch.testing.assert_close(errors.square().mean(0), expected, rtol=0.02, atol=0)


def test_the_rate_is_that_of_reverse_water_filling(vae: Linear, images: Tensor) -> None:
    posterior, _ = outputs(vae, images)
    expected = float((EIGENVALUES / VARIANCE).log2().clamp_min(0).sum()) / 2
    assert float(kl_bits(posterior.mean, posterior.logvar).mean()) == pytest.approx(expected, rel=0.01)


def test_active_units_are_the_eigenvalues_above_the_variance(vae: Linear, images: Tensor) -> None:
    assert active_units(outputs(vae, images)[0].mean) == int((EIGENVALUES > VARIANCE).sum()) == 4


def test_the_bound_is_the_likelihood_of_probabilistic_pca(vae: Linear, images: Tensor) -> None:
    posterior, reconstructions = outputs(vae, images)
    nll = gaussian_nll(images.repeat(16, 1, 1, 1), reconstructions, VARIANCE).double().mean()
    rate = math.log(2) * kl_bits(posterior.mean, posterior.logvar).mean()
    found = float(bits_per_dim(-(nll + rate), 6))
    model = EIGENVALUES.clamp_min(VARIANCE)
    best = float((math.log(2 * math.pi) + model.log() + EIGENVALUES / model).sum()) / 2
    assert found == pytest.approx(best / 6 / math.log(2), abs=0.005)


def test_samples_lack_the_variance_of_each_direction(vae: Linear) -> None:
    decoder = vae.decoder.detach().double()
    powers = (rotation().T @ decoder @ decoder.T @ rotation()).diagonal()
    torch.testing.assert_close(powers, (EIGENVALUES - VARIANCE).clamp_min(0), rtol=0.02, atol=1e-3)


def test_the_averaging_identity_holds_in_every_direction(vae: Linear, images: Tensor) -> None:
    _, reconstructions = outputs(vae, images)
    real = images.repeat(16, 1, 1, 1)
    power, output, error = (
        (x.flatten(1).double() @ rotation()).square().mean(0) for x in (real, reconstructions, real - reconstructions)
    )
    torch.testing.assert_close((power - output) / error, torch.ones(6, dtype=torch.float64), rtol=0, atol=0.05)
