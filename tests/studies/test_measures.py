"""The studies' own measurements against known answers."""

import math
from types import SimpleNamespace

import pytest
import torch

from hfgen.studies import critic, noise, one_latent


def test_the_blur_is_a_gaussians_response():
    x = torch.arange(16).double()
    wave = torch.cos(2 * math.pi * 4 * x / 16).expand(1, 1, 16, 16)
    expected = math.exp(-2 * (math.pi * 0.7 * 0.25) ** 2)
    torch.testing.assert_close(critic._blur(wave, 0.7), wave * expected)


def test_a_whole_pixel_of_shift_moves_pixels():
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # A wave at half a cycle a pixel has no shift of its own; a smooth image has none.
    smooth = critic._blur(images, 1.5)
    moved = critic._faults(0)["shift"](smooth, 1.0)
    torch.testing.assert_close(moved, smooth.roll((1, 1), (2, 3)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["noise", "contrast", "shift"])
def test_every_fault_is_made_as_large_as_the_blur(name):
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    error = 0.02
    changed = critic._as_large(critic._faults(0)[name], images, error)
    assert float((changed - images).square().mean()) == pytest.approx(error, rel=1e-3)


def test_the_linear_bound_is_that_of_probabilistic_pca():
    """Images of two independent directions: the smaller is lost, the larger keeps the variance."""
    draws = torch.Generator().manual_seed(0)
    directions = torch.zeros(2, 256)
    directions[0, 0] = directions[1, 1] = 1
    codes = torch.randn(50_000, 2, generator=draws) * torch.tensor([0.3, 0.1])
    pixels = ((codes @ directions) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    trained = SimpleNamespace(evaluation=SimpleNamespace(originals=pixels.reshape(-1, 1, 16, 16)))
    found = noise._linear(trained, variance=0.04, numbers=1)
    assert found.value == pytest.approx(10 * math.log10(4 / ((0.04 + 0.01) / 256)), abs=0.05)
    # A latent of two numbers keeps the smaller direction too, which is below the variance: nothing is gained.
    assert noise._linear(trained, variance=0.04, numbers=2).value == pytest.approx(found.value, abs=0.01)


def test_a_mean_and_an_exact_draw_have_as_much_of_the_image():
    """Images are a known part and one that nobody knows, each with half of the power."""
    draws = torch.Generator().manual_seed(0)

    def drawn() -> torch.Tensor:
        return 20 * torch.randn(500, 1, 16, 16, generator=draws)

    known, real = drawn(), drawn()
    made = {"mean": known, "draw": known + drawn(), "another": known + drawn(), "invented": drawn() + drawn()}
    cells = {
        name: SimpleNamespace(
            evaluation=SimpleNamespace(originals=_pixels(known + real)), reconstructions=_pixels(image), window="none"
        )
        for name, image in made.items()
    }
    power = one_latent.metrics.power_spectrum(_pixels(known + real)).high
    own = {name: one_latent._ratio(one_latent._own(cell), power) for name, cell in cells.items()}
    assert own["mean"].value == pytest.approx(0.5, abs=0.01) and own["invented"].value == pytest.approx(0, abs=0.01)
    assert one_latent._own_gained(cells["draw"], cells["mean"]).value == pytest.approx(0, abs=0.01)
    # Two exact draws differ as much as a draw and the image; twice a draw's unknown part.
    between, beside = one_latent._differences(
        cells["draw"], cells["draw"].reconstructions, cells["another"].reconstructions
    )
    assert one_latent._ratio(between, power).value == pytest.approx(1, abs=0.02)
    assert one_latent._ratio(between - beside, power).value == pytest.approx(0, abs=0.02)


def _pixels(values: torch.Tensor) -> torch.Tensor:
    return (values + 127.5).round().clamp(0, 255).to(torch.uint8)
