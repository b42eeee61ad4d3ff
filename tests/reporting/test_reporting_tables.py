"""Which model is the best, and how a table of metrics shows it."""

import csv
import io
import math
import urllib.parse
from typing import Any

import pytest

from hfgen.metrics import Estimate
from hfgen.reporting.best import best, distance_from
from hfgen.reporting.glossary import GROUPS, METRICS, group_of
from hfgen.reporting.metric_table import csv_uri, metric_groups, metric_row
from hfgen.reporting.numbers import number, percent, short, without_intervals


def near(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value, value - half, value + half, 100)


def entry(value: float, half: float = 0.01) -> dict[str, Any]:
    return near(value, half).as_dict()


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("psnr", {"a": 20.0, "b": 21.0}, ["b"]),
        ("psnr", {"a": 20.0, "b": 20.015, "c": 10.0}, ["b", "a"]),
        ("kid", {"a": 0.5, "b": -0.1}, ["b"]),
        # Twice the power is as far from real as half of it, and 1.9 is nearer.
        ("hf_ratio_sample", {"a": 0.5, "b": 1.9}, ["b"]),
        ("hf_ratio_sample", {"a": 0.5, "b": 2.0}, ["a", "b"]),
        ("bias_l", {"a": -0.2, "b": 0.1}, ["b"]),
        ("two_sample", {"a": 0.9, "b": 0.6}, ["b"]),
        ("rate_bits", {"a": 1.0, "b": 2.0}, []),
        ("no_such_metric", {"a": 1.0, "b": 2.0}, []),
        ("psnr", {}, []),
    ],
)
def test_the_best_is_known(metric: str, values: dict[str, float], expected: list[str]):
    assert best(metric, {name: near(value) for name, value in values.items()}) == expected


def test_a_measured_difference_decides_on_a_tie():
    scores = {"a": near(20, 1), "b": near(20.5, 1)}
    pair = {"first": "a", "second": "b", "difference": entry(-0.5), "tie": False}
    assert best("psnr", scores) == ["b", "a"] and best("psnr", scores, [pair]) == ["b"]
    assert best("psnr", {"a": near(20), "b": near(21)}, [{**pair, "tie": True}]) == ["b", "a"]


def test_a_distance_of_an_interval_that_holds_the_target_begins_at_0():
    assert distance_from(1, Estimate(0.9, 0.8, 1.1, 9)).low == 0
    assert distance_from(1, Estimate(2, 1.5, 4, 9)) == Estimate(math.log(2), math.log(1.5), math.log(4), 9)
    assert distance_from(math.inf, Estimate(3, 2, 5, 9)) == Estimate(-3, -5, -2, 9)


def test_a_row_marks_the_best_of_the_models_and_never_the_real_images():
    columns = {"real": {"coverage": entry(0.97)}, "a": {"coverage": entry(0.5)}, "b": {}, "c": {"coverage": entry(0.1)}}
    real, a, b, c = metric_row("coverage", columns, "real").cells
    assert b is None and (real.rank, a.rank, c.rank) == ("", "best", "")
    assert (c.bar.low, real.bar.high) == (0, 100) and 0 < a.bar.low < a.bar.value < a.bar.high < 100
    assert f"{a.value} {a.interval}" == number(near(0.5)) and a.sorts == 0.5


def test_models_that_all_tie_and_a_model_alone_have_no_mark():
    alike = metric_row("ssim", {"a": {"ssim": entry(0.5)}, "b": {"ssim": entry(0.5)}})
    alone = metric_row("ssim", {"a": {"ssim": entry(0.5)}})
    assert [cell.rank for cell in (*alike.cells, *alone.cells)] == ["", "", ""]
    assert alone.cells[0].bar is None
    tied = metric_row("ssim", {name: {"ssim": entry(value)} for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.1))})
    assert [cell.rank for cell in tied.cells] == ["tie", "tie", ""]


def test_every_metric_stands_in_one_group_those_that_nobody_knows_too():
    names = [*METRICS, "new_metric"]
    groups = metric_groups({"a": {name: entry(1) for name in names}}, None, {})
    assert list(groups) == list(GROUPS) and sum(map(len, groups.values())) == len(names)
    assert [row.label for row in groups["Others"]] == ["new_metric"]
    assert (group_of("kid"), group_of("kid_reconstruction")) == ("Likeness of samples", "Closeness to the original")
    assert (group_of("coherence_high"), group_of("coherence_cb")) == ("Sharpness", "Colour")


def test_the_csv_file_holds_all_numbers_unrounded():
    columns = {'a, "b" <é>': {"psnr": entry(20 / 3)}, "real": {"kid": entry(1e-9)}}
    start, _, body = csv_uri(columns).partition(",")
    assert start == "data:text/csv;charset=utf-8" and body.isascii()
    rows = list(csv.DictReader(io.StringIO(urllib.parse.unquote(body))))
    assert [row["model"] for row in rows] == list(columns)
    for row, fields in zip(rows, (columns['a, "b" <é>']["psnr"], columns["real"]["kid"]), strict=True):
        assert {key: float(row[key]) for key in fields} == fields


@pytest.mark.parametrize("estimate", [near(0.5), near(-3), near(1250, 3), Estimate(0.43, 0.4, 1e-7, 9)])
def test_a_headline_has_no_intervals(estimate: Estimate):
    for words in (number(estimate), percent(estimate)):
        assert without_intervals(f"power: {words}; more [in brackets] and [1]") == (
            f"power: {words.partition(' [')[0]}; more [in brackets] and [1]"
        )


def test_short_numbers():
    assert [short(value) for value in (0.23, 9.96, 17.4, 1250.4)] == ["0.2", "10.0", "17", "1,250"]
