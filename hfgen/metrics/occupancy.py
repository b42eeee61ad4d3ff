"""How many of K cells are hit, and how evenly; how far chance moves both.

Images hit known modes, or codes of a codebook. The numbers grow with the images, so an interval is for the mean value
at as many. Halves of the images say nothing of it: they hit other, fewer cells.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from hfgen.metrics.intervals import Estimate, normal_estimate

# Cells that more rows hit are hit for sure: e^-30 of them aren't.
_RARE = 30
_FEW = 5
_RATES = 60
_STEPS = 300
# Variance of whether a cell, or cells that come together, are hit that no row hits: at most 1/4, for ln 2 rows of it.
_UNSEEN = 0.25


def hits(cells: Tensor, size: int) -> Tensor:
    """How many of the N rows of integers (N, L) hold each of the `size` cells: int64 (size,)."""
    return torch.bincount(_pairs(cells)[1], minlength=size)


def distinct(cells: Tensor, size: int) -> Estimate:
    """How many of `size` cells the N rows of integers (N, L) hold, each row being one draw; within [1, size].

    The number of rows that hold a cell is nearly Poisson, and the rates' distribution that of highest likelihood
    (Kiefer & Wolfowitz 1956). A row moves the number by the cells that it alone holds, two rows by those that only
    these two do, and so on: the variance is the alternating sum of their squares (Good & Toulmin 1956), less what a
    fixed N takes from it. Squares follow the rates, and how many cells rows and pairs of rows hold alone at a time.
    """
    rows, found = _pairs(cells)
    counts = torch.bincount(found, minlength=size)
    value = int((counts > 0).sum())
    spread, singles = _moments(torch.bincount(counts.clamp(max=_RARE), minlength=_RARE + 1)[:_RARE].double())
    groups = [_together(rows[counts[found] == number].view(-1, number)) for number in range(1, _FEW + 1)]
    most = max(groups)
    # Where no cell is held by one or two rows alone, those that a few hold tell how cells come together.
    first, second = (group or most or 1.0 for group in groups[:2])
    variance = max(first * singles - singles**2 / len(cells) - second * (singles - spread), 0.0)
    if value < size:
        variance += _UNSEEN * max(most, 1.0) ** 2
    whole = normal_estimate(float(value), variance**0.5, len(cells))
    return Estimate(whole.value, max(whole.low, 1.0), min(whole.high, float(size)), whole.n)


def expected_distinct(shares: Tensor, draws: int) -> float:
    """The mean number of cells that `draws` independent draws hit, of cells with these shares (K,)."""
    return float((1 - (1 - shares.double()).pow(draws)).sum())


def entropy_variance(cells: Tensor, size: int) -> float:
    """Of the entropy, in nats, of all cells that the N rows of integers (N, L) hold, each row being one draw.

    What chance does to it has parts of every order: of a row by itself, of two rows that hold the same cell, and so on.
    The jackknife's variance has the k-th k times in it (Efron & Stein 1981), squares of second differences have it
    k (k - 1) / 2 times, and the variance is their alternating sum. Where most cells are held about twice it converges
    slowly, so that its first two terms a - b are taken as a / (1 + b / a), the Pade approximant.
    """
    rows, found, times = _counted_pairs(cells)
    counts = torch.bincount(cells.reshape(-1), minlength=size).double()
    left, left_length = counts[found] - times, cells.numel() - cells.shape[1]
    changes = torch.zeros(len(cells)).double().index_add_(0, rows, _surprise(left) - _surprise(counts[found]))
    first = (len(cells) - 1) * float((changes / left_length).var(correction=0))
    second = _second_differences(rows, found, times, counts) / cells.numel() ** 2
    return first**2 / (first + second) if first > 0 else second


def _surprise(counts: Tensor) -> Tensor:
    return torch.special.xlogy(counts, counts)


def _second_differences(rows: Tensor, found: Tensor, times: Tensor, counts: Tensor) -> float:
    """Sum of the squares, over pairs of rows, of what the two do together to the sum of `_surprise` of the counts."""
    holders = torch.bincount(found, minlength=len(counts))
    first_pair, most = holders.cumsum(0) - holders, int(rows.max()) + 1
    pairs, changes = [torch.empty(0).long()], [torch.empty(0).double()]
    for number in range(2, _RARE + 1):
        held = (holders == number).nonzero()[:, 0]
        places = first_pair[held][:, None] + torch.arange(number)
        one, other = torch.triu_indices(number, number, 1)
        count, mine, theirs = counts[held][:, None], times[places][:, one], times[places][:, other]
        alone = _surprise(count - mine) + _surprise(count - theirs)
        changes.append((_surprise(count) - alone + _surprise(count - mine - theirs)).flatten())
        pairs.append((rows[places][:, one] * most + rows[places][:, other]).flatten())
    groups = torch.unique(torch.cat(pairs), return_inverse=True)[1]
    together = torch.zeros(len(groups)).double().index_add_(0, groups, torch.cat(changes))
    # Of a cell that many hold it is 1/2, of a chi square's variance.
    return float(together.square().sum()) + float((holders > _RARE).sum()) / 2


def _pairs(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Each row (P,) and cell (P,) that it holds, once, by cell and then by row."""
    return _counted_pairs(cells)[:2]


def _counted_pairs(cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`_pairs`, and how often the row holds the cell (P,)."""
    rows = torch.arange(len(cells)).repeat_interleave(cells.shape[1])
    pairs, times = torch.unique(cells.reshape(-1).long() * len(cells) + rows, return_counts=True)
    return pairs % len(cells), pairs // len(cells), times.double()


def _together(holders: Tensor) -> float:
    """Of the rows (P, k) that hold each of P cells: mean square over mean of how many cells have the same ones.

    0 without cells.
    """
    if len(holders) == 0:
        return 0.0
    numbers = torch.unique(holders, dim=0, return_counts=True)[1].double()
    return float(numbers.square().sum() / numbers.sum())


def _moments(frequencies: Tensor) -> tuple[float, float]:
    """Of cells, of which `frequencies` (30,) are hit 0, 1, ... times: variance of the number hit, and mean hit once."""
    total = frequencies.sum()
    if total == 0:
        return 0.0, 0.0
    rates, likelihood = _likelihood()
    weights = torch.full_like(rates, 1 / len(rates))
    for _ in range(_STEPS):
        weights = weights * (likelihood.T @ (frequencies / (likelihood @ weights).clamp_min(1e-300))) / total
    never = (-rates).exp()
    return float(total * weights @ (never - never.square())), float(total * weights @ (rates * never))


@lru_cache(maxsize=1)
def _likelihood() -> tuple[Tensor, Tensor]:
    """Rates (61,), 0 among them, and the probability of 0, 1, ... hits (30, 61) at each."""
    rates = torch.cat([torch.zeros(1), torch.logspace(-2, math.log10(_RARE), _RATES)]).double()
    numbers = torch.arange(_RARE).double()[:, None]
    return rates, (torch.special.xlogy(numbers, rates) - rates - torch.lgamma(numbers + 1)).exp()
