"""Verdicts from known numbers."""

from types import SimpleNamespace

import pytest
import torch

from hfgen.metrics import Estimate
from hfgen.studies import run_studies
from hfgen.studies.claims import (
    Claim,
    Criterion,
    Finding,
    Measured,
    difference,
    in_words,
    minus,
    over_seeds,
    psnr_difference,
    value,
)

PSNR = 20 + 5 * torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def measured(power: float, psnr: torch.Tensor = PSNR) -> Measured:
    return Measured({"hf": Estimate(power, power - 0.02, power + 0.02, 100)}, SimpleNamespace(psnr=psnr))


RESULTS = {"a": [measured(0.9, PSNR + 0.5), measured(0.92, PSNR + 0.6)], "b": [measured(0.4), measured(0.43)]}


def test_differences_are_taken_seed_by_seed():
    first, second = difference("a", "b", "hf")(RESULTS)
    assert (first.value, second.value) == pytest.approx((0.5, 0.49))
    # Two independent errors of .02 join to .028.
    assert first.high - first.value == pytest.approx(0.02 * 2**0.5)
    same = minus(value("a", "hf"), value("a", "hf"))(RESULTS)
    assert [estimate.value for estimate in same] == [0, 0]


def test_errors_of_the_same_images_are_compared_image_by_image():
    found = psnr_difference("a", "b")(RESULTS)
    # Images differ by some dB, and the two cells by the same on each.
    for estimate, gain in zip(found, (0.5, 0.6), strict=True):
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((gain, gain, gain))


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


@pytest.mark.parametrize(
    ("second", "verdict", "disagree"),
    [("b", "contradicted", True), ("a", "supported", False), ("c", "undecided", False)],
)
def test_a_sentence_whose_two_judges_disagree_says_so(second: str, verdict: str, disagree: bool):
    results = {**RESULTS, "c": [measured(0.4), measured(0.6)]}
    test = Criterion("power", value("a", "hf"), above=0.5, second=value(second, "hf"))
    decided = Claim("c", (test, Criterion("power of b", value("b", "hf"), below=0.5))).decide(results)
    # The first judge decides.
    assert decided["verdict"] == "supported"
    assert decided["tests"][0]["second_judge"]["verdict"] == verdict
    assert "second_judge" not in decided["tests"][1]
    assert decided.get("judges_disagree", False) is disagree
    [row] = run_studies._verdicts({"name": "s", "claims": [decided]})
    assert ("the two judges disagree" in row["number"]) is disagree
    assert "by pixels and spectra" in row["number"]
