import math

import pytest
import torch
from scipy.spatial import cKDTree

from hfgen.errors import UserError
from hfgen.metrics import memorisation
from hfgen.metrics.neighbours import nearest_distances


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nearest_distances_are_scipys_in_any_blocks() -> None:
    points, others = normal(700, 5) + 100, normal(9000, 5, seed=1) + 100
    distances, _ = cKDTree(others.numpy()).query(points.numpy())
    torch.testing.assert_close(nearest_distances(points, others), torch.from_numpy(distances), rtol=1e-9, atol=1e-9)


def test_new_draws_score_1_and_copies_0() -> None:
    training, held_out = normal(2000, 6), normal(800, 6, seed=1)
    new = memorisation(training, held_out, normal(700, 6, seed=2), seed=0)
    assert new.low < 1 < new.high and new.n == 700
    copies = memorisation(training, held_out, training[:300], seed=0)
    assert (copies.value, copies.low, copies.high) == (0, 0, 0)
    mixed = memorisation(training, held_out, torch.cat([training[:500], normal(500, 6, seed=3)]), seed=0)
    assert mixed.low < 0.5 < mixed.high


def test_what_is_off_the_data_scores_above_1() -> None:
    assert memorisation(normal(500, 4), normal(300, 4, seed=1), normal(300, 4, seed=2) + 3, seed=0).low > 1


def test_the_interval_holds_1_for_new_draws() -> None:
    training = normal(300, 4)
    held = 0
    for seed in range(200):
        estimate = memorisation(
            training, normal(100, 4, seed=2 * seed + 1), normal(80, 4, seed=2 * seed + 2), seed=seed
        )
        held += estimate.low <= 1 <= estimate.high
    assert 0.9 <= held / 200 <= 0.99


def test_order_does_not_matter() -> None:
    sets = normal(50, 3), normal(30, 3, seed=1), normal(20, 3, seed=2)
    value = memorisation(*sets, seed=0).value
    assert memorisation(*(x.flip(0) for x in sets), seed=0).value == pytest.approx(value)


def test_sets_without_an_answer_are_refused() -> None:
    x, y = normal(20, 3), normal(20, 3, seed=1)
    for training, held_out, samples, field in (
        (x, x, y, "held_out_features: all"),
        (x[:1], x, y, "training_features: 1 images"),
        (x, y, x[:0], "sample_features: 0 images"),
        (x, y, normal(5, 4), "sample_features: 4 features against 3"),
        (x, y * math.nan, x, "held_out_features: NaN"),
    ):
        with pytest.raises(UserError, match=field):
            memorisation(training, held_out, samples, seed=0)
