"""Principal components as the floor of an autoencoder: against the exact decomposition."""

import pytest
import torch

from hfgen.errors import UserError
from hfgen.images import to_float
from hfgen.metrics import capped_psnr, check_components, linear_reconstructions


def images(count: int, seed: int) -> torch.Tensor:
    """Mixtures of 6 fixed patterns of falling weight, uint8 (count, 1, 16, 16)."""
    patterns = torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) * torch.tensor([9, 7, 5, 4, 3, 2])
    return (128 + weights @ patterns).clamp(0, 255).round().byte().view(count, 1, 16, 16)


@pytest.mark.parametrize("numbers", [1, 3, 6])
def test_components_are_those_of_the_exact_decomposition(numbers: int):
    training, held_out = images(300, 1), images(40, 2)
    pixels = to_float(training).flatten(1).double()
    centre = pixels.mean(0)
    leading = torch.linalg.svd(pixels - centre, full_matrices=False).Vh[:numbers]
    wanted = (to_float(held_out).flatten(1).double() - centre) @ leading.T @ leading + centre
    found = to_float(linear_reconstructions(training, held_out, numbers, seed=0)).flatten(1)
    assert (found - wanted.clamp(-1, 1)).abs().max() < 2 / 255


def test_more_numbers_bring_more_until_all_patterns_are_there():
    training, held_out = images(300, 1), images(40, 2)
    scores = [capped_psnr(held_out, linear_reconstructions(training, held_out, n, seed=0)).mean() for n in (1, 2, 4, 6)]
    assert scores == sorted(scores) and scores[-1] > 45 > scores[-2]


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_state():
    training, held_out = images(50, 1), images(5, 2)
    before = torch.random.get_rng_state()
    first, second = (linear_reconstructions(training, held_out, 4, seed=3) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("count", "numbers"), [(50, 26), (5000, 1025)])
def test_what_components_cannot_bound_is_refused(count: int, numbers: int):
    check_components(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), 25)
    with pytest.raises(UserError, match=f"components: {numbers} numbers are too many for {count} training images"):
        check_components(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), numbers)
