import math

import pytest
import torch
from scipy.spatial import cKDTree

from hfgen.errors import UserError
from hfgen.metrics import copying, memorisation, training_distances
from hfgen.metrics.neighbours import nearest_distances


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nearest_distances_are_scipys_in_any_blocks() -> None:
    points, others = normal(700, 5) + 100, normal(9000, 5, seed=1) + 100
    distances, _ = cKDTree(others.numpy()).query(points.numpy())
    torch.testing.assert_close(nearest_distances(points, others), torch.from_numpy(distances), rtol=1e-9, atol=1e-9)


def test_new_draws_score_1_and_copies_0() -> None:
    training, held_out = normal(2000, 6), normal(800, 6, seed=1)
    new = memorisation([training], held_out, normal(700, 6, seed=2), seed=0)
    assert new.low < 1 < new.high and new.n == 700
    copies = memorisation([training], held_out, training[:300], seed=0)
    assert (copies.value, copies.low, copies.high) == (0, 0, 0)
    mixed = memorisation([training], held_out, torch.cat([training[:500], normal(500, 6, seed=3)]), seed=0)
    assert mixed.low < 0.5 < mixed.high


def test_what_is_off_the_data_scores_above_1() -> None:
    assert memorisation([normal(500, 4)], normal(300, 4, seed=1), normal(300, 4, seed=2) + 3, seed=0).low > 1


def test_the_interval_holds_1_for_new_draws() -> None:
    training = normal(300, 4)
    held = 0
    for seed in range(200):
        estimate = memorisation(
            [training], normal(100, 4, seed=2 * seed + 1), normal(80, 4, seed=2 * seed + 2), seed=seed
        )
        held += estimate.low <= 1 <= estimate.high
    assert 0.9 <= held / 200 <= 0.99


def test_order_does_not_matter() -> None:
    sets = normal(50, 3), normal(30, 3, seed=1), normal(20, 3, seed=2)
    value = memorisation([sets[0]], *sets[1:], seed=0).value
    flipped, *others = (x.flip(0) for x in sets)
    assert memorisation([flipped], *others, seed=0).value == pytest.approx(value)


def test_copies_are_found_in_the_whole_train_split_and_not_in_a_part_of_it() -> None:
    """60,000 training images, all of which the model copies at random; a reference of 2,000 sees new images."""
    training, held_out = normal(60_000, 6), normal(500, 6, seed=1)
    picks = torch.randperm(60_000, generator=torch.Generator().manual_seed(2))[:500]
    whole = memorisation(training.split(7_000), held_out, training[picks], seed=0)
    assert (whole.value, whole.high) == (0, 0)
    assert memorisation([training[:2_000]], held_out, training[picks], seed=0).value > 0.9


def test_parts_are_read_one_at_a_time_and_any_split_is_the_same() -> None:
    training, points, alive = normal(900, 5), normal(40, 5, seed=1), []

    def parts():
        for part in training.split(100):
            alive.append(len(part))
            yield part

    expected = training_distances([training], points)
    torch.testing.assert_close(training_distances(parts(), points), expected, rtol=1e-12, atol=1e-12)
    assert alive == [100] * 9
    assert copying(expected[:20], expected[20:], seed=0) == memorisation([training], points[:20], points[20:], seed=0)


def test_sets_without_an_answer_are_refused() -> None:
    x, y = normal(20, 3), normal(20, 3, seed=1)
    for training, held_out, samples, field in (
        ([x], x, y, "held_out_features: all"),
        ([], x, y, "training_features: there are none"),
        ([x[:0]], x, y, "training_features: 0 images"),
        ([x], y, x[:0], "sample_features: 0 images"),
        ([x], y, normal(5, 4), "sample_features: 4 features against 3"),
        ([normal(5, 4)], y, x, "features: 3 features against 4 of training_features"),
        ([x], y * math.nan, x, "held_out_features: NaN"),
        ([x, x * math.nan], y, x, "training_features: NaN"),
    ):
        with pytest.raises(UserError, match=field):
            memorisation(training, held_out, samples, seed=0)
