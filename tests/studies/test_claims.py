"""Verdicts from known numbers."""

import pytest

from hfgen.metrics import Estimate
from hfgen.studies.claims import Claim, Criterion, Finding, difference, in_words, minus, over_seeds, value

RESULTS = {
    "a": [{"hf": Estimate(0.9, 0.88, 0.92, 100)}, {"hf": Estimate(0.92, 0.9, 0.94, 100)}],
    "b": [{"hf": Estimate(0.4, 0.38, 0.42, 100)}, {"hf": Estimate(0.43, 0.41, 0.45, 100)}],
}


def test_differences_are_taken_seed_by_seed():
    first, second = difference("a", "b", "hf")(RESULTS)
    assert (first.value, second.value) == pytest.approx((0.5, 0.49))
    # Two independent errors of .02 join to .028.
    assert first.high - first.value == pytest.approx(0.02 * 2**0.5)
    same = minus(value("a", "hf"), value("a", "hf"))(RESULTS)
    assert [estimate.value for estimate in same] == [0, 0]


@pytest.mark.parametrize(
    ("bounds", "finding", "verdict"),
    [
        ({"above": 0.5}, (0.7, 0.6, 0.8), "supported"),
        ({"above": 0.5}, (0.3, 0.2, 0.4), "contradicted"),
        ({"above": 0.5}, (0.52, 0.4, 0.6), "undecided"),
        ({"above": 0.5}, (0.7, 0.5, 0.9), "undecided"),
        ({"below": 0.5}, (0.3, 0.2, 0.4), "supported"),
        ({"below": 0.5}, (0.7, 0.6, 0.8), "contradicted"),
        ({"below": 0.5}, (0.48, 0.4, 0.6), "undecided"),
        ({"above": -1.0}, (-0.5, -0.9, -0.1), "supported"),
    ],
)
def test_a_verdict_needs_the_whole_interval(bounds, finding, verdict):
    test = Criterion("x", value("a", "hf"), **bounds)
    assert test.verdict(Finding(*finding, 3)) == verdict


def test_one_seed_decides_nothing():
    finding = over_seeds([Estimate(0.9, 0.89, 0.91, 100)])
    assert finding == Finding(0.9, None, None, 1)
    assert Criterion("x", value("a", "hf"), above=0.1).verdict(finding) == "undecided"
    assert in_words(finding._asdict()) == "0.9 (one seed)"


def test_a_claim_needs_all_of_its_tests_and_falls_with_one():
    high = Criterion("power of a", value("a", "hf"), above=0.5)
    low = Criterion("power of b", value("b", "hf"), above=0.9)
    unclear = Criterion("power of b", value("b", "hf"), above=0.42)
    assert Claim("c", (high,)).decide(RESULTS)["verdict"] == "supported"
    assert Claim("c", (high, unclear)).decide(RESULTS)["verdict"] == "undecided"
    decided = Claim("c", (high, unclear, low)).decide(RESULTS)
    assert decided["verdict"] == "contradicted"
    assert [test["verdict"] for test in decided["tests"]] == ["supported", "undecided", "contradicted"]
    assert "power of a is above 0.5" in decided["rule"]
    assert decided["tests"][0]["value"] == pytest.approx(0.91)
