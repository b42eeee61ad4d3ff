"""No metric of a degenerate set ends a measurement: it is left out, with its reason, or it has its known value."""

import pytest
import torch
from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.metrics import Collector, Estimate, learned

N, D = 24, 6


def sets() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(N, D, generator=generator, dtype=torch.float64)
    return {
        "normal": normal,
        "equal": torch.full((N, D), 0.1, dtype=torch.float64),
        "zero": torch.zeros(N, D, dtype=torch.float64),
        "duplicates": normal[:3].repeat(N // 3, 1),
        "one column": normal[:, :1].expand(N, D),
        "outlier": torch.cat([torch.zeros(N - 1, D), torch.full((1, D), 1e9)]).double(),
        "huge": normal * 1e120,
        "tiny": normal * 1e-170,
    }


def measure_all(real: Tensor, fake: Tensor) -> Collector:
    found = Collector()
    found.add("kid", lambda: metrics.kernel_distance_interval(real, fake))
    found.add("fd", lambda: metrics.frechet_distance_interval(real, fake, seed=0))
    found.add("two_sample", lambda: metrics.two_sample_test(real, fake, seed=0))
    found.add("prdc", lambda: metrics.prdc_intervals(real, fake, 5, seed=0))
    found.add("ndb", lambda: metrics.ndb(real, fake, real, 2, seed=0).jsd)
    found.add("memorisation", lambda: metrics.memorisation(real, fake, fake, seed=0))
    found.add("perceptual", lambda: metrics.bootstrap_mean(metrics.perceptual_distance(real, fake), seed=0))
    found.add("vendi", lambda: metrics.vendi_interval(fake, seed=0))
    found.add("kid_difference", lambda: metrics.kernel_distance_difference(real, fake, real))
    found.add("kid_paired", lambda: metrics.paired_kernel_distance(real, fake))
    found.add("coverage_difference", lambda: metrics.coverage_difference(real, fake, real, 5, seed=0))
    magnitudes = real[:, 0].abs(), fake[:, 0].abs()
    found.add("ratio", lambda: metrics.bootstrap_ratio(*magnitudes[::-1], seed=0, paired=False))
    found.add("ratio_difference", lambda: metrics.ratio_difference(*magnitudes, magnitudes[0]))
    found.add("active_units", lambda: metrics.active_units_interval(fake))
    return found


# scipy's k-means divides by the sum of squares, which overflow.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("real", sets())
@pytest.mark.parametrize("fake", sets())
def test_every_metric_of_every_set_is_a_finite_interval_or_a_note(real: str, fake: str):
    found = measure_all(sets()[real], sets()[fake])
    for name, estimate in found.estimates.items():
        assert -float("inf") < estimate.low <= estimate.value <= estimate.high < float("inf"), name
    noted = {note.partition(":")[0] for note in found.notes}
    measured = set(found.estimates) | ({"prdc"} if "recall" in found.estimates else set())
    assert len(noted) == len(found.notes) and noted.isdisjoint(measured)
    assert len(noted) + len(measured - {"precision", "recall", "density", "coverage"}) == 14
    if {real, fake} <= {"normal", "duplicates"}:
        assert noted <= {"ndb", "memorisation"}


def test_samples_of_one_kind_have_no_recall_and_are_told_apart():
    found = measure_all(sets()["normal"], sets()["equal"]).estimates
    assert found["recall"].value == 0
    assert found["two_sample"].value > 0.9
    assert found["vendi"].value == pytest.approx(1)


def test_the_reason_is_told_without_the_remedy():
    found = Collector("baseline: ")

    def refuse() -> Estimate:
        raise UserError("fake: no power; use others")

    def overflow() -> Estimate:
        return Estimate(float("nan"), 0.0, 1.0, 3)

    def crash() -> Estimate:
        return torch.linalg.cholesky(torch.zeros(2, 2)).sum()  # type: ignore[return-value]

    found.add("one", refuse)
    found.add("two", overflow)
    found.add("three", crash)
    found.add("four", lambda: Estimate(1.0, 0.0, 2.0, 3))
    assert found.notes[:2] == [
        "baseline: one: left out (fake: no power)",
        "baseline: two: left out (it is non-finite)",
    ]
    assert found.notes[2].startswith("baseline: three: left out (") and "\n" not in found.notes[2]
    assert list(found.estimates) == ["four"]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 21.373])
def test_the_mean_of_equal_values_lies_in_its_interval(value: float):
    estimate = metrics.bootstrap_mean(torch.full((13,), value, dtype=torch.float64), seed=0)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.value == pytest.approx(value)


def test_weights_that_cant_be_downloaded_leave_their_metric_out(monkeypatch: pytest.MonkeyPatch):
    found, pair = metrics.Collector(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr(learned.importlib.util, "find_spec", lambda name: object())
    # As torchvision fetches them, from a port where nothing listens.
    monkeypatch.setitem(learned._MODULES, "lpips", ("urllib.request", "urlopen", {"url": "http://127.0.0.1:9/alexnet"}))
    distance = metrics.learned_distances(pair, pair, found)["lpips"]
    found.add("lpips", lambda: metrics.bootstrap_mean(distance(), seed=0))
    assert not found.estimates
    assert found.notes[0].startswith("lpips: left out (its network's weights can't be downloaded")
