"""Means of the losses' terms, summed on the device, and where a term became non-finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_AT_ONCE = 64
"""Steps whose values wait at most."""
# Of what only a run of as many processes takes back: the rows without the values that wait, and these.
_BEFORE, _WAITING = "before:", "waiting:"


class Reading(NamedTuple):
    """One term since the last line: the mean of its finite values (NaN without any), and the others.

    Attributes:
        mean: Over steps and processes.
        nonfinite: How many values were non-finite.
        first_step: The first step with such a value.
    """

    mean: float
    nonfinite: int
    first_step: int | None


class Meters:
    """Named running sums; adding never waits for the device, and gives it one operation a call.

    On a GPU many small operations take longer than a small network's step: values are put down, and summed up some
    steps at a time.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}
        self._values: dict[tuple[str, ...], list[tuple[int, Tensor]]] = {}

    def add(self, terms: Mapping[str, Tensor], step: int) -> None:
        """Count scalars of this step, by name."""
        waiting = self._values.setdefault(tuple(terms), [])
        waiting.append((step, torch.stack([value.detach().float() for value in terms.values()])))
        if len(waiting) >= _AT_ONCE:
            self._sum_up()

    def _sum_up(self) -> None:
        self._rows, self._values = self._summed(), {}

    def _summed(self) -> dict[str, Tensor]:
        """The row of each term, with the values that wait."""
        rows = dict(self._rows)
        # In the same order after a resume, whose file has another.
        for names, waiting in sorted(self._values.items(), key=lambda item: item[0]):
            values = torch.stack([value for _, value in waiting])
            # Exact in float32 below 2**24.
            steps = torch.tensor([[float(step)] for step, _ in waiting], device=values.device)
            finite = values.isfinite()
            # Sum, finite values, other values; the first step of another value.
            sums = [torch.where(finite, values, 0).sum(0), finite.float().sum(0), (~finite).float().sum(0)]
            first = torch.where(finite, torch.inf, steps).amin(0)
            for name, row in zip(names, torch.stack([*sums, first], 1), strict=True):
                before = rows.get(name)
                rows[name] = row if before is None else _join(torch.stack([before, row]))
        return rows

    def read(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Reading]:
        """Every term over all processes, by name; `gather` joins (n, 4) rows over them."""
        readings = {}
        for name, rows in _gathered(self._summed(), gather).items():
            row = _join(rows)
            total, count, bad, first = row.tolist()
            readings[name] = Reading(total / count if count else math.nan, int(bad), int(first) if bad else None)
        return readings

    def clear(self) -> None:
        """Begin the next line."""
        self._rows, self._values = {}, {}

    def state(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What a resumed run goes on from: every process's row of each term, (processes, 4), on the CPU.

        Beside it what a run of as many processes goes on from, since float32 sums depend on what is summed at once:
        the rows without the values that wait, and these with their steps, (processes, steps, 1 + terms).
        """
        state = _gathered(self._summed(), gather)
        if not self._values:
            return state
        state |= {f"{_BEFORE}{name}": rows for name, rows in _gathered(self._rows, gather).items()}
        for names, waiting in sorted(self._values.items(), key=lambda item: item[0]):
            values = torch.stack([torch.cat([value.new_tensor([step]), value]) for step, value in waiting])
            state[_WAITING + "\n".join(names)] = gather(values).cpu().reshape(-1, *values.shape)
        return state

    def load(self, state: Mapping[str, Tensor], device: torch.device, rank: int, processes: int) -> None:
        """Put `state` back; where the number of processes has changed, the first one takes it all."""
        waiting = {key: parts for key, parts in state.items() if key.startswith(_WAITING)}
        totals = {key: rows for key, rows in state.items() if not key.startswith((_WAITING, _BEFORE))}
        if waiting and all(len(parts) == processes for parts in waiting.values()):
            for key, parts in waiting.items():
                names, steps = tuple(key.removeprefix(_WAITING).split("\n")), parts[rank, :, 0].int().tolist()
                self._values[names] = list(zip(steps, parts[rank, :, 1:].to(device), strict=True))
            totals = {key.removeprefix(_BEFORE): rows for key, rows in state.items() if key.startswith(_BEFORE)}
        for name, rows in totals.items():
            if len(rows) == processes:
                row = rows[rank]
            else:
                row = _join(rows) if rank == 0 else torch.tensor([0.0, 0.0, 0.0, torch.inf])
            self._rows[name] = row.to(device)


def _gathered(rows: Mapping[str, Tensor], gather: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Every process's row of each term, (processes, 4), on the CPU."""
    names = sorted(rows)
    if not names:
        return {}
    shares = gather(torch.stack([rows[name] for name in names])).cpu().reshape(-1, len(names), 4)
    return dict(zip(names, shares.unbind(1), strict=True))


def _join(rows: Tensor) -> Tensor:
    """One row (4,) for all processes': sums add up, and the first step is the smallest."""
    return torch.cat([rows[:, :3].sum(0), rows[:, 3:].amin(0)])
