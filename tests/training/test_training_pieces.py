"""Averages, schedules and draws against their formulae."""

import copy
import math

import pytest
import torch
from torch import nn

from hfgen.training.ema import EMA, make_averages
from hfgen.training.phases import Draws
from hfgen.training.schedules import learning_rate_factor, ramp


def test_an_old_weight_counts_half_after_the_half_life():
    network = nn.Linear(2, 2)
    average = make_averages({"net": network})["net"]
    old = copy.deepcopy(average.weight)
    with torch.no_grad():
        network.weight.add_(1.0)
    for step in range(8):
        EMA(average, network).update(images=16, images_seen=10_000 + 16 * step, half_life=128)
    torch.testing.assert_close(average.weight - old, torch.full((2, 2), 0.5))


def test_early_averages_forget_fast_and_buffers_are_copied():
    network = nn.BatchNorm1d(2)
    average = make_averages({"net": network})["net"]
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(7.0)
    EMA(average, network).update(images=64, images_seen=64, half_life=10**6)
    assert average.weight.sub(3).abs().max() < 0.01 and average.running_mean.eq(7).all()


@pytest.mark.parametrize(
    ("images_seen", "factor"),
    [
        (100, 0.01),
        (149, 0.5 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 49 / 1000)))),
        (600, 0.55),
        (1100, 0.1),
    ],
)
def test_the_learning_rate_rises_then_follows_a_cosine(images_seen: int, factor: float):
    value = learning_rate_factor(images_seen, first=100, last=1100, warmup=100, end=0.1)
    assert value == pytest.approx(factor, abs=1e-12 if images_seen != 100 else 1e-3)


def test_two_processes_draw_the_halves_of_what_one_draws():
    device = torch.device("cpu")
    whole = Draws(0, 64, device).normal((8, 3))
    halves = [Draws(0, 64, device, rank, 2).normal((4, 3)) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(Draws(0, 128, device).normal((8, 3)), whole)


def test_a_ramp_rises_linearly_between_its_ends():
    assert [ramp(progress, 0.2, 0.4) for progress in (0.0, 0.2, 0.3, 0.6, 0.9)] == pytest.approx([0, 0, 0.25, 1, 1])
    assert [ramp(progress, 0.2, 0.0) for progress in (0.1, 0.2, 0.9)] == [0.0, 1.0, 1.0]
