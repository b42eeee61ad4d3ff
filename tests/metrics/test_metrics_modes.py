import math
from pathlib import Path

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import accepted_modes, enough_for_modes, modes, modes_intervals, recognition
from hfgen.metrics.occupancy import distinct, expected_distinct, hits


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
        (torch.tensor([0]), torch.tensor([-2]), "generated: class -2 is out of range"),
        (torch.tensor([0]), torch.tensor([], dtype=torch.int64), r"generated: int64 \(0,\) isn't a list of classes"),
        (torch.zeros(3), torch.tensor([0]), r"real: float32 \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.tensor([0]), r"real: int64 \(3, 2\)"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(real: torch.Tensor, generated: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        modes(real, generated, 5)


def draws(shares: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    return shares.multinomial(count, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_rejected_images_are_of_no_mode() -> None:
    real = torch.arange(10)
    assert modes(real, torch.tensor([0, 1, -1, -1]), 10) == modes(real, torch.tensor([0, 1]), 10)
    use = modes_intervals(torch.full((2,), 50), torch.tensor([0, 1, -1, -1] * 30))
    assert use.hit.value == 2 and use.hit.n == 120 and use.rejected.value == 0.5
    assert use.rejected.low < 0.45 < 0.55 < use.rejected.high
    nothing = modes_intervals(torch.full((2,), 50), torch.full((60,), -1))
    assert nothing.hit.value == 0 and nothing.kl is None and nothing.rejected.high == 1


def test_garbage_is_of_no_mode_and_held_out_letters_are() -> None:
    """By the embedded judge. Of two halves of letters, some make one; a blurred letter is still that letter."""
    from hfgen.data import draw
    from hfgen.metrics import embedded_extractor, recogniser

    training, first, both = (
        draw("glyphs", split, 0, count, 16) for split, count in (("train", 1500), ("test", 400), ("test", 800))
    )
    judge = embedded_extractor(training.images, training.labels, "ab" * 32)
    held_out, new = first.images, both.images[400:]
    found, draws = recogniser(judge, held_out), torch.Generator().manual_seed(0)
    halves = new.clone()
    halves[:, :, 8:] = new.roll(1, 0)[:, :, 8:]
    garbage = {
        "noise": torch.randint(256, (100, 1, 16, 16), generator=draws, dtype=torch.uint8),
        "mean": held_out.double().mean(0, keepdim=True).byte(),
        "black": torch.zeros(1, 1, 16, 16, dtype=torch.uint8),
        "white": torch.full((1, 1, 16, 16), 255, dtype=torch.uint8),
        "pixels in disorder": new.flatten(1)[:, torch.randperm(256, generator=draws)].view_as(new),
    }
    rejected = {name: float((found.classes(images) < 0).double().mean()) for name, images in garbage.items()}
    assert min(rejected.values()) > 0.95, rejected
    assert float((found.classes(halves) < 0).double().mean()) > 0.7
    classes = found.classes(new)
    assert float((classes < 0).double().mean()) < 0.1
    right = classes[classes >= 0] == both.labels[400:][classes >= 0]
    assert float(right.double().mean()) > 0.95


def test_without_classes_nothing_is_recognised(tmp_path: Path) -> None:
    from hfgen.metrics import pixel_extractor, recogniser

    images = torch.randint(256, (30, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    judge = pixel_extractor(images, "ab" * 32, cache=tmp_path)
    with pytest.raises(UserError, match="tells no classes"):
        recogniser(judge, images)


def test_an_image_needs_both_a_sure_classifier_and_a_real_neighbour() -> None:
    real = torch.zeros(3, 2)
    needed = recognition(torch.linspace(0.8, 1, 41), torch.linspace(0, 2, 41).double())
    assert needed == pytest.approx((0.805, 1.95))
    features = torch.tensor([[1.0, 0], [1, 0], [9, 0]])
    kept = accepted_modes(torch.tensor([4, 5, 6]), torch.tensor([0.9, 0.5, 1.0]), features, real, needed)
    assert kept.tolist() == [4, -1, -1]


def test_26_images_a_mode_are_enough() -> None:
    assert enough_for_modes(26_000, 1000) and not enough_for_modes(25_999, 1000)
    assert modes_intervals(torch.full((10,), 5), torch.arange(259) % 10).kl is None
    assert modes_intervals(torch.full((10,), 5), torch.arange(260) % 10).kl is not None


def test_a_perfect_generator_of_few_images_hits_as_many_modes_as_chance_lets_it() -> None:
    shares = torch.full((1000,), 1e-3, dtype=torch.float64)
    assert expected_distinct(shares, 1000) == pytest.approx(632.3, abs=0.1)
    assert expected_distinct(shares, 26_000) == pytest.approx(1000)
    values = [modes_intervals(torch.full((1000,), 9), draws(shares, 1000, seed)).hit.value for seed in range(20)]
    assert sum(values) / 20 == pytest.approx(632.3, abs=8)


@pytest.mark.parametrize(
    ("kind", "count", "trials"),
    [("even", 1000, 60), ("uneven", 4000, 60), ("dropped", 26_000, 30), ("one rare of ten", 300, 60)],
)
def test_the_interval_of_the_modes_hit_holds_their_mean(kind: str, count: int, trials: int) -> None:
    weights = torch.ones(1000).double()
    if kind == "one rare of ten":
        weights = torch.tensor([1.0] * 9 + [0.02]).double()
    elif kind != "even":
        weights = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double().exp()
        weights[: 300 if kind == "dropped" else 0] = 0
    shares = weights / weights.sum()
    truth = expected_distinct(shares, count)
    found = [distinct(draws(shares, count, seed)[:, None], len(shares)) for seed in range(trials)]
    assert sum(e.low <= truth <= e.high for e in found) >= 0.85 * trials
    assert all(1 <= e.low <= e.value <= e.high <= len(shares) for e in found)


def test_the_interval_of_even_modes_is_that_of_the_occupancy_problem() -> None:
    shares = torch.full((500,), 1 / 500, dtype=torch.float64)
    values, widths = [], []
    for seed in range(100):
        found = distinct(draws(shares, 500, seed)[:, None], 500)
        values.append(found.value)
        widths.append((found.high - found.low) / 2 / 1.96)
    # K (e^-1 - 2 e^-2) for K draws from K cells.
    known = (500 * (math.exp(-1) - 2 * math.exp(-2))) ** 0.5
    assert torch.tensor(widths).mean() == pytest.approx(known, rel=0.06)
    assert torch.tensor(values).double().std() == pytest.approx(known, rel=0.2)


def test_a_row_hits_a_cell_once() -> None:
    cells = torch.tensor([[0, 0, 3], [3, 3, 3], [1, 0, 3]])
    assert hits(cells, 5).tolist() == [2, 1, 0, 3, 0]
    assert distinct(cells, 5).value == 3


def test_the_kl_of_dropped_modes_is_held() -> None:
    shares = torch.tensor([2.0, 1, 1, 1, 1]).double()
    truth = float((shares / 6 * (shares / 6 * 5).log()).sum())
    # The plug-in value has a bias of (K - 1) / 2 M.
    found = [modes_intervals(torch.full((5,), 90), draws(shares, 1000, seed)).kl for seed in range(100)]
    assert sum(e.low <= truth + 4 / 2000 <= e.high for e in found) >= 88
    even = [modes_intervals(torch.full((5,), 90), draws(torch.ones(5), 1000, seed)).kl for seed in range(100)]
    assert sum(e.low <= 4 / 2000 <= e.high for e in even) >= 88
    assert all(e.low >= 0 for e in even)
