"""What each of several repairs brings, where they are made in every order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import permutations, product
from typing import TypeVar

from torch import Tensor

from hfgen.errors import UserError

Value = TypeVar("Value", float, Tensor)


def shapley(
    game: Mapping[frozenset[str], Value], players: Collection[str], last: Collection[str] = ()
) -> dict[str, Value]:
    """Exact Shapley values (1953): each player's gain, averaged over all orders in which the players may come.

    They sum to the value of all players less that of none; a player who never changes anything has 0; of games that
    are added the values add.

    Args:
        game: The value of each coalition: numbers, or tensors of one shape for many games at once.
        players: Their names, a few.
        last: Those who come after all others in every order that counts: a weighted Shapley value, in which what
            others bring only together with them is theirs (Kalai & Samet 1987).

    Raises:
        UserError: a coalition without a value.
    """
    early, late = ([name for name in players if name not in last], [name for name in players if name in last])
    orders = [one + other for one, other in product(permutations(early), permutations(late))]
    gains: dict[str, list[Value]] = {name: [] for name in players}
    for order in orders:
        for place, name in enumerate(order):
            gains[name].append(_value(game, order[: place + 1]) - _value(game, order[:place]))
    return {name: sum(each[1:], start=each[0]) / len(orders) for name, each in gains.items()}


def _value(game: Mapping[frozenset[str], Value], members: Collection[str]) -> Value:
    if (coalition := frozenset(members)) not in game:
        raise UserError(f"game: the coalition {sorted(coalition)} has no value; give one for each that orders come by")
    return game[coalition]
