"""Verdicts of sentences from known numbers, and what every sentence of the studies has."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hfgen.documents import STUDY
from hfgen.errors import UserError
from hfgen.metrics import Estimate, bootstrap_mean
from hfgen.studies.cells import BUDGETS
from hfgen.studies.claims import Check, Claim, Contrast, correct, p_value, told
from hfgen.studies.effects import Effect, Measured, difference, in_words, log_ratio, over_seeds, psnr_difference, value
from hfgen.studies.page import draw
from hfgen.studies.run_studies import SENTENCES, STUDIES
from hfgen.studies.verdicts import POWER

PSNR = 20 + 5 * torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def measured(power: float, psnr: torch.Tensor = PSNR) -> Measured:
    trained: Any = SimpleNamespace(psnr=psnr)
    metrics = {"hf": Estimate(power, power - 0.0196, power + 0.0196, 100), "psnr": bootstrap_mean(psnr, seed=0)}
    return Measured(metrics, trained)


SEEDS = (-0.01, 0.0, 0.01, 0.0)
RESULTS = {
    "a": [measured(0.9 + seed, PSNR + 0.5 + seed) for seed in SEEDS],
    "b": [measured(0.4 + 2 * seed) for seed in SEEDS],
    "one": [measured(0.5)],
}


def claim(effect: Effect, side: Any = "above", **more: Any) -> Claim:
    return Claim("c", "a is sharper.", Contrast("power of a beyond b", effect, POWER, side), **more)


def test_two_cells_are_two_arms_whose_images_errors_add_up():
    arms = difference("a", "b", "hf").arms(RESULTS)
    assert arms.values == ([0.89, 0.9, 0.91, 0.9], pytest.approx([0.38, 0.4, 0.42, 0.4]))
    assert arms.shared == pytest.approx(2 * 0.01**2)
    found = claim(difference("a", "b", "hf")).decide(RESULTS)
    assert found["test"] == "Welch's t" and found["seeds"] == [4, 4] and found["effect"]["value"] == pytest.approx(0.5)


def test_errors_of_the_same_images_have_one_joint_error():
    arms = psnr_difference("a", "b").arms(RESULTS)
    # Images differ by some dB, and the two cells by the same on each.
    assert arms.shared == pytest.approx(0) and arms.values[0][0] - arms.values[1][0] == pytest.approx(0.49)
    assert difference("a", "b", "psnr").arms(RESULTS).shared > 0.01


def test_one_cell_is_one_arm():
    arms = value("a", "hf", beyond=0.5).arms(RESULTS)
    assert arms.values == (pytest.approx([0.39, 0.4, 0.41, 0.4]),) and arms.shared == pytest.approx(0.01**2)
    assert value("a", "hf", beyond="psnr").arms(RESULTS).values[0][1] == pytest.approx(0.9 - float(PSNR.mean()) - 0.5)
    logs = log_ratio("a", "b", "hf").arms(RESULTS).values
    assert logs[0][1] - logs[1][1] == pytest.approx(math.log(0.9 / 0.4))


def test_a_failed_check_is_not_tested_whatever_the_effect():
    effect = difference("a", "b", "hf")
    passed, failed = (Check("power of a", value("a", "hf"), least) for least in (0.85, 0.95))
    found = claim(effect, checks=(passed,)).decide(RESULTS)
    assert found["verdict"] == "supported" and found["checks"][0]["passed"]
    found = claim(effect, checks=(passed, failed)).decide(RESULTS)
    correct([found], 1)
    assert (found["verdict"], found["p_holm"]) == ("not tested", None)
    assert "power of a is 0.90" in told(found) and "below 0.95" in told(found)
    undefined = Check("x", value("a", "nothing"), 0.0)
    assert claim(effect, checks=(undefined,)).decide(RESULTS)["verdict"] == "not tested"


def test_one_seed_decides_nothing():
    check = Check("power", value("one", "hf"), 0.85)
    found = claim(difference("one", "b", "hf"), checks=(check,)).decide(RESULTS)
    correct([found], 1)
    assert found["verdict"] == "undecided" and found["effect"]["low"] is None and found["p_holm"] is None
    assert "0.1 (one seed)" in told(found)
    assert in_words(over_seeds([Estimate(0.9, 0.89, 0.91, 100)])._asdict()) == "0.9 (one seed)"


def test_a_number_that_is_not_defined_decides_nothing():
    found = claim(value("a", "nothing")).decide(RESULTS)
    correct([found], 1)
    assert found["verdict"] == "undecided" and found["effect"] is None and "not defined" in told(found)


@pytest.mark.parametrize(("second", "disagree"), [("low", True), ("a", False), ("same", False)])
def test_a_sentence_whose_two_judges_disagree_says_so(second: str, disagree: bool):
    results = {**RESULTS, "low": [measured(0.1 + seed) for seed in SEEDS], "same": RESULTS["b"]}
    contrast = Contrast("power", difference("a", "b", "hf"), POWER, "above", difference(second, "b", "hf"))
    found = Claim("c", "says", contrast).decide(results)
    correct([found], 1)
    # The first judge decides.
    assert found["verdict"] == "supported" and found.get("judges_disagree", False) is disagree
    assert ("the two judges disagree" in told(found)) is disagree and "by pixels and spectra" in told(found)


@pytest.mark.parametrize(
    ("p", "words"), [(None, "-"), (0.0123, "0.012"), (2e-9, "2e-09"), (0.0, "below 1e-16"), (1e-189, "below 1e-16")]
)
def test_a_p_value_is_never_said_to_be_zero(p: float | None, words: str):
    assert p_value(p) == words


def test_the_correction_counts_sentences_that_are_not_there():
    found = [claim(value("a", "hf", beyond=0.8)).decide(RESULTS) for _ in range(3)]
    p = found[0]["effect"]["p"]
    assert 1e-6 < p < 1e-3
    correct(found[:1], 1)
    assert found[0]["p_holm"] == pytest.approx(p)
    correct(found[1:2], 3)
    assert found[1]["p_holm"] == pytest.approx(3 * p) and found[1]["verdict"] == "supported"
    correct(found[2:], math.ceil(0.06 / p))
    assert found[2]["uncorrected"] == "supported" and found[2]["verdict"] == "undecided"


def test_sentences_have_names_of_their_own_and_equal_images():
    claims = [(study, one) for study in STUDIES.values() for one in study.claims]
    assert len({(study.name, one.id) for study, one in claims}) == len(claims) == SENTENCES
    effects = [one.contrast.effect for _, one in claims]
    for (study, one), effect in zip(claims, effects, strict=True):
        assert set(one.cells) <= set(study.cells) and one.contrast.currency.least > 0, one.id
        assert len({study.cells[label].part for label in effect.cells}) == 1, "arms see as many images"
    for study in STUDIES.values():
        starts = [cell.start for cell in study.cells.values() if cell.start is not None]
        assert set(starts) <= set(study.cells.values()), "what a cell begins with is trained first"
    # No two sentences are one comparison of the same cells in the same currency.
    pairs = [
        (frozenset(study.cells[label] for label in effect.cells), one.contrast.currency)
        for (study, one), effect in zip(claims, effects, strict=True)
        if len(effect.cells) == 2
    ]
    assert len(set(pairs)) == len(pairs)
    assert BUDGETS["full"].seeds == 8


def test_the_page_has_every_sentence_and_what_decides_on_it():
    page = (Path(__file__).parents[2] / "hfgen" / "studies" / "README.md").read_text()
    for study in STUDIES.values():
        for one in study.claims:
            row = f"| `{study.name}/{one.id}` | {one.says} | {one.contrast.what} | {one.contrast.side} "
            assert row in page, row
    assert f"all {SENTENCES} sentences" in page.replace("\n", " ")


def test_cells_of_equal_compute_stand_in_charts_and_decide_nothing():
    study = STUDIES["latent"]
    equal = {label.partition(",")[0]: label for label in study.cells if label.endswith(", equal compute")}
    assert list(equal) == ["L2", "L2 + PatchGAN"] and not study.deciding & set(equal.values())
    for tick, label in equal.items():
        shown, longer = study.cells[tick], study.cells[label]
        # As many more images as an image of the flow costs more: 4.8 ms of a core, 1.8 and 2.7.
        cost = {"L2": 1.8, "L2 + PatchGAN": 2.7}[tick]
        assert longer.part / shown.part == pytest.approx(4.8 / cost, rel=0.02) and longer._replace(part=0.5) == shown
    for panel, chart in zip(study.panels, study.charts, strict=True):
        *own, beside = chart.series
        assert tuple(own) == panel.series and (beside.metric, dict(beside.cells)) == (own[0].metric, equal)
    assert STUDIES["loss"].charts == STUDIES["loss"].panels


def test_every_arm_with_an_adversary_is_checked():
    adversarial = {"gan", "vaegan", "ali", "pix2pix"}
    for study in STUDIES.values():
        for one in study.claims:
            families = {label: study.cells[label].family for label in one.contrast.effect.cells}
            wanted = {label for label, family in families.items() if family in adversarial and label != "l1"}
            assert wanted <= {label for check in one.checks for label in check.effect.cells}, one.id


def test_older_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"schema: 2 was expected .* study again with this version of hfgen"):
        STUDY.check({"schema": 1, "data": "glyphs", "budget": {}}, tmp_path)


def test_an_interval_of_two_seeds_is_not_drawn():
    def found(seeds: int) -> dict:
        return {"folders": [], "metrics": {"psnr": {"value": 20.0, "low": 4.0, "high": 36.0, "seeds": seeds}}}

    def lines(seeds: int) -> int:
        cells = {"L2": found(8), "L1": found(seeds)}
        figure = draw(STUDIES["loss"], {"studies": [{"name": "loss", "cells": cells}]})
        return len(figure.axes[1].lines)

    assert lines(3) == lines(2) + 1
