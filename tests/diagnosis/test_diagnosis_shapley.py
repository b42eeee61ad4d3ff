"""Shapley values of games whose answer is known."""

from itertools import permutations

import pytest
import torch

from hfgen.diagnosis.shapley import shapley
from hfgen.errors import UserError


def subsets(players: str) -> list[frozenset[str]]:
    found = [frozenset()]
    for player in players:
        found += [part | {player} for part in found]
    return found


def test_of_an_additive_game_each_has_its_own():
    own = {"a": 1.0, "b": -2.0, "c": 0.5}
    game = {part: 3 + sum(own[player] for player in part) for part in subsets("abc")}
    assert shapley(game, "abc") == pytest.approx(own)


def test_an_interaction_is_divided_equally_and_a_dummy_has_nothing():
    game = {part: 6.0 * ({"a", "b"} <= part) for part in subsets("abc")}
    assert shapley(game, "abc") == pytest.approx({"a": 3, "b": 3, "c": 0})


def test_of_gloves_the_one_right_hand_has_two_thirds():
    # One left glove, two right ones: a pair is worth 1 (Shapley & Shubik 1969).
    game = {part: float("l" in part and bool(part & {"r", "s"})) for part in subsets("lrs")}
    assert shapley(game, "lrs") == pytest.approx({"l": 2 / 3, "r": 1 / 6, "s": 1 / 6})


def test_they_are_the_mean_gain_over_all_orders_and_work_on_many_games_at_once():
    generator = torch.Generator().manual_seed(0)
    game = {part: torch.randn(5, generator=generator) for part in subsets("abcd")}
    found = shapley(game, "abcd")
    orders = list(permutations("abcd"))
    for player in "abcd":
        before = [frozenset(order[: order.index(player)]) for order in orders]
        gains = torch.stack([game[part | {player}] - game[part] for part in before])
        assert torch.allclose(found[player], gains.mean(0), atol=1e-6)
    assert torch.allclose(sum(found.values()), game[frozenset("abcd")] - game[frozenset()], atol=1e-5)


def test_what_others_bring_only_with_the_last_is_the_lasts():
    game = {part: 6.0 * ({"a", "c"} <= part) + 2.0 * ("b" in part) + 1.0 * ("c" in part) for part in subsets("abc")}
    assert shapley(game, "abc", last="c") == pytest.approx({"a": 0, "b": 2, "c": 7})
    assert shapley(game, "abc") == pytest.approx({"a": 3, "b": 2, "c": 4})


def test_a_coalition_without_a_value_is_refused():
    with pytest.raises(UserError, match=r"game: the coalition \['a', 'b'\] has no value"):
        shapley({part: 0.0 for part in subsets("ab") if len(part) < 2}, "ab")
