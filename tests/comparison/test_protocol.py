"""Records that were measured otherwise are refused by the first field that differs."""

import copy
from typing import Any

import pytest

from hfgen.comparison.protocol import check_same_protocol, version_notes
from hfgen.errors import UserError

RECORD: dict[str, Any] = {
    "schema": 2,
    "model": {"id": "runs/vae"},
    "data": {"id": "glyphs", "revision": None, "split": "test", "n": 60, "resolution": 16, "fingerprint": "ab" * 32},
    "protocol": {
        "seed": 0,
        "neighbours": 5,
        "window": "none",
        "extractor": {"id": "hfgen-classifier-v1/ab", "sha256": "cd" * 32, "accuracy": 0.9},
        "versions": {"torch": "2.13.0", "hfgen": "0.1.0"},
    },
}


def changed(**fields: Any) -> dict[str, Any]:
    """The record with fields, dotted by `__`, set."""
    record = copy.deepcopy(RECORD)
    for path, value in fields.items():
        *places, last = path.split("__")
        place = record
        for key in places:
            place = place[key]
        place[last] = value
    return record


def message(*records: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        check_same_protocol({f"model{index}": record for index, record in enumerate(records)})
    text = str(caught.value)
    assert "\n" not in text and "; " in text
    return text


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("schema", 1, "this version of hfgen"),
        ("data__resolution", 32, "one resolution, or give --resolution"),
        ("data__split", "validation", "one --split"),
        ("data__fingerprint", "0" * 64, "same --data"),
        ("data__n", 61, "one --n"),
        ("protocol__seed", 1, "one --seed"),
        ("protocol__neighbours", 3, "this version"),
        ("protocol__dtype", "bf16", "one --dtype"),
        ("protocol__extractor__id", "facebook/dinov2-small", "one extractor"),
        ("protocol__extractor__sha256", "f" * 64, "one machine"),
    ],
)
def test_a_field_that_differs_is_named_with_both_values_and_a_remedy(field: str, value: Any, remedy: str):
    text = message(changed(protocol__dtype="fp32"), changed(**{"protocol__dtype": "fp32", field: value}))
    assert text.startswith(field.replace("__", ".") + ": ")
    assert f"{value} of model1" in text and remedy in text


@pytest.mark.parametrize(
    "field", ["protocol__small_images", "protocol__extractor__preprocessing", "protocol__of_tomorrow"]
)
def test_what_only_one_record_has_differs_too(field: str):
    text = message(RECORD, changed(**{field: "pad"}))
    assert text.startswith(field.replace("__", ".") + ": nothing recorded of model0, but pad of model1")


def test_causes_are_reported_before_what_they_change():
    other = changed(data__fingerprint="0" * 64, protocol__extractor__sha256="0" * 64, data__split="train")
    assert message(RECORD, other).startswith("data.split: ")


def test_the_third_record_is_compared_too():
    assert "1 of model2" in message(RECORD, RECORD, changed(protocol__seed=1))


def test_names_of_the_data_descriptions_and_versions_may_differ():
    other = changed(data__id="/here/glyphs", data__revision="a1", protocol__extractor__accuracy=0.8)
    other["protocol"]["versions"] = {"torch": "2.12.0", "hfgen": "0.1.0", "diffusers": "1"}
    check_same_protocol({"a": RECORD, "b": other})
    assert version_notes({"a": RECORD, "b": other}) == [
        "torch: versions differ (2.13.0 for a, 2.12.0 for b)",
        "diffusers: versions differ (no for a, 1 for b)",
    ]
    assert version_notes({"a": RECORD, "b": RECORD}) == []


def test_devices_may_differ_and_are_noted():
    old, there = RECORD, changed(protocol__device="cuda: a card", protocol__dtype="fp32", protocol__batch=50)
    check_same_protocol({"old": old, "there": there})
    note = "device: models ran on several, whose rounding differs (cpu for old, cuda: a card for there)"
    assert version_notes({"old": old, "there": there}) == [note]
    assert version_notes({"one": there, "other": there}) == []
