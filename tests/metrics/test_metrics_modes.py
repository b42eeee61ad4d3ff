import math

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import modes


def test_equal_shares_hit_every_mode_at_a_divergence_of_0() -> None:
    real = torch.arange(40) % 10
    assert modes(real, real.flip(0), 10) == (10, 0)
    assert modes(real, real.repeat(3), 10) == (10, 0)


@pytest.mark.parametrize("hit", [1, 4, 10])
def test_dropping_modes_of_even_data_costs_the_log_of_the_ratio(hit: int) -> None:
    found = modes(torch.arange(10), torch.arange(8 * hit) % hit, 10)
    assert found.hit == hit and found.kl == pytest.approx(math.log(10 / hit))


def test_divergence_is_scipys() -> None:
    from scipy.stats import entropy

    real, generated = torch.tensor([0, 0, 1, 1, 2, 3]), torch.tensor([0, 1, 1, 1, 2])
    expected = entropy([1 / 5, 3 / 5, 1 / 5, 0], [2 / 6, 2 / 6, 1 / 6, 1 / 6])
    assert modes(real, generated, 4).kl == pytest.approx(float(expected))


def test_modes_that_the_data_lacks_are_infinitely_far() -> None:
    assert modes(torch.tensor([0, 0]), torch.tensor([0, 1]), 3) == (2, math.inf)


def test_a_perfect_generators_divergence_is_that_of_chance() -> None:
    draws = torch.Generator().manual_seed(0)
    values = [modes(*torch.randint(50, (2, 2000), generator=draws), 50).kl for _ in range(40)]
    assert sum(values) / 40 == pytest.approx(49 / 2 * (1 / 2000 + 1 / 2000), rel=0.15)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (torch.tensor([0]), torch.tensor([5]), "generated: class 5 is out of range; give 0 to 4"),
        (torch.tensor([-1, 2]), torch.tensor([0]), "real: class -1 is out of range"),
        (torch.tensor([0]), torch.tensor([], dtype=torch.int64), r"generated: int64 \(0,\) isn't a list of classes"),
        (torch.zeros(3), torch.tensor([0]), r"real: float32 \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.tensor([0]), r"real: int64 \(3, 2\)"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(real: torch.Tensor, generated: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        modes(real, generated, 5)
