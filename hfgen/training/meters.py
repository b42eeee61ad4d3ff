"""Means of the losses' terms, summed on the device, and where a term became non-finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


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
    """Named running sums; adding never waits for the device."""

    def __init__(self) -> None:
        self._rows: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, step: int) -> None:
        """Count a scalar of this step."""
        value = value.detach().float()
        finite = torch.isfinite(value)
        zero, one = torch.zeros_like(value), torch.ones_like(value)
        # Sum, finite values, other values; the first step (exact in float32 below 2**24) of another value.
        new = torch.stack([torch.where(finite, value, zero), finite.float(), one - finite.float()])
        first = torch.where(finite, torch.full_like(value, torch.inf), torch.full_like(value, step))
        if name in self._rows:
            new, first = self._rows[name][:3] + new, torch.minimum(self._rows[name][3], first)
        self._rows[name] = torch.cat([new, first[None]])

    def read(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Reading]:
        """Every term over all processes, by name; `gather` joins (n, 4) rows over them."""
        readings = {}
        for name, rows in self.state(gather).items():
            row = _join(rows)
            total, count, bad, first = row.tolist()
            readings[name] = Reading(total / count if count else math.nan, int(bad), int(first) if bad else None)
        return readings

    def clear(self) -> None:
        """Begin the next line."""
        self._rows = {}

    def state(self, gather: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """What a resumed run goes on from: every process's row of each term, (processes, 4), on the CPU."""
        names = sorted(self._rows)
        if not names:
            return {}
        shares = gather(torch.stack([self._rows[name] for name in names])).cpu().reshape(-1, len(names), 4)
        return dict(zip(names, shares.unbind(1), strict=True))

    def load(self, state: Mapping[str, Tensor], device: torch.device, rank: int, processes: int) -> None:
        """Put `state` back; where the number of processes has changed, the first one takes it all."""
        for name, rows in state.items():
            if len(rows) == processes:
                row = rows[rank]
            else:
                row = _join(rows) if rank == 0 else torch.tensor([0.0, 0.0, 0.0, torch.inf])
            self._rows[name] = row.to(device)


def _join(rows: Tensor) -> Tensor:
    """One row (4,) for all processes': sums add up, and the first step is the smallest."""
    return torch.cat([rows[:, :3].sum(0), rows[:, 3:].amin(0)])
