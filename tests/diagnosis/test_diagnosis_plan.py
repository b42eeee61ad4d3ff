"""The time that is announced is that of a warm network, and is corrected by what was done."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hfgen.diagnosis import plan
from hfgen.diagnosis.budgets import Budget

INPUTS = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
BUDGET = Budget(images=40, latent_steps=1, refit_steps=1, batch=32)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only where a test says so."""
    time = [0.0]
    monkeypatch.setattr(plan, "time", SimpleNamespace(perf_counter=lambda: time[0]))
    return time


def network(now: list[float], monkeypatch: pytest.MonkeyPatch, first: float, call: float, image: float) -> list[int]:
    """One whose first call takes `first` seconds longer; the images of each call."""
    calls: list[int] = []

    def reconstruct(_, inputs):
        now[0] += call + image * len(inputs) + (0 if calls else first)
        calls.append(len(inputs))

    monkeypatch.setattr(plan, "reconstruct", reconstruct)
    return calls


MODEL = SimpleNamespace(can_reconstruct=True)


def test_a_slow_first_call_and_what_each_call_costs_are_not_multiplied(now, monkeypatch):
    calls = network(now, monkeypatch, first=100, call=0.1, image=0.01)
    assert plan.seconds_of_a_pass(MODEL, INPUTS, BUDGET) == pytest.approx(0.01, rel=0.4)
    assert max(calls) == 27, "as many as fit into three seconds"


def test_one_busy_moment_does_not_count(now, monkeypatch):
    network(now, monkeypatch, first=0, call=0, image=0.001)
    steady = plan.reconstruct

    def disturbed(pipeline, inputs):
        steady(pipeline, inputs)
        now[0] += 2 * (len(busy) == 2)
        busy.append(1)

    busy: list[int] = []
    monkeypatch.setattr(plan, "reconstruct", disturbed)
    assert plan.seconds_of_a_pass(MODEL, INPUTS, BUDGET) == pytest.approx(0.001)


def test_measuring_a_slow_network_takes_three_calls_of_one_image(now, monkeypatch):
    calls = network(now, monkeypatch, first=5, call=0, image=20)
    assert plan.seconds_of_a_pass(MODEL, INPUTS, BUDGET) == pytest.approx(20)
    assert calls == [1, 1, 1]


def test_a_time_that_was_wrong_is_corrected_once_and_what_lies_there_already_does_not_count(
    now, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    clock = plan.Clock({"held": 1000, "short": 10, "long": 1000, "last": 3000}, 1.0)
    assert clock.said == "84 minutes"
    (tmp_path / "held.json").touch()
    with caplog.at_level(logging.INFO, "hfgen"):
        with clock.part("held", tmp_path):
            now[0] += 0.1
        assert not caplog.messages, "it was made before"
        for name, seconds in (("short", 10), ("long", 100)):
            with clock.part(name, tmp_path):
                now[0] += seconds
        with clock.part("unplanned", tmp_path):
            now[0] += 50
    assert caplog.messages == ["diagnose: about 6 minutes more, by what was done so far"]
    # 110 s for 1,010 passes: 3,000 more take 327 s.
    assert clock.said == "6 minutes"
