"""A record is one, or is refused in a line that names the field."""

import copy
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from hfgen import documents
from hfgen.errors import UserError
from hfgen.files import write_text

ESTIMATE = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 40}
RECORD: dict[str, Any] = {
    "schema": 1,
    "model": {"id": "runs/vae", "revision": None, "family": "vae", "parameters": 10},
    "data": {"id": "glyphs", "revision": None, "split": "test", "n": 40, "resolution": 16, "fingerprint": "a" * 64},
    "protocol": {
        "seed": 0,
        "neighbours": 5,
        "extractor": {"id": "hfgen-classifier-v1/aaaaaaaaaaaa", "sha256": "b" * 64, "accuracy": 0.9},
        "versions": {"torch": "2.13.0"},
    },
    "metrics": {"kid": dict(ESTIMATE), "psnr": {**ESTIMATE, "value": 1}},
    "baseline": {"kid": dict(ESTIMATE)},
    "spectrum": {"frequencies": [0.1], "real": [1.0], "sample": [1e-9]},
}


def test_what_was_written_is_read(tmp_path: Path):
    documents.RECORD.write(tmp_path / "record.json", RECORD)
    assert documents.RECORD.read(tmp_path / "record.json") == RECORD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("model.parameters", "many"),
        ("data.n", 0),
        ("data.fingerprint", "abc"),
        ("protocol.extractor.accuracy", 1.5),
        ("protocol.versions.torch", 2),
        ("metrics.kid.n", 1.5),
        ("metrics.kid", {"value": 1.0}),
        ("metrics.kid.low", 1.25),
        ("metrics.kid.value", float("nan")),
        ("baseline.kid.high", float("inf")),
        ("spectrum.real", []),
        ("spectrum.sample.0", None),
    ],
)
def test_a_wrong_field_is_named_when_written_and_when_read(field: str, value: Any, tmp_path: Path):
    record: Any = copy.deepcopy(RECORD)
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    reduce(lambda part, key: part[key], parents, record)[last] = value
    path = tmp_path / "record.json"
    named = rf"^{field}|^{field.rpartition('.')[0]}: .*isn't a number within"
    with pytest.raises(UserError, match=named):
        documents.RECORD.write(path, record)
    assert not path.exists()
    write_text(path, json.dumps(record))
    with pytest.raises(UserError, match=named) as refusal:
        documents.RECORD.read(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("field", ["model", "metrics", "spectrum"])
def test_a_missing_field_is_named(field: str, tmp_path: Path):
    record = {key: value for key, value in RECORD.items() if key != field}
    with pytest.raises(UserError, match=rf"'{field}' is a required property"):
        documents.RECORD.write(tmp_path / "record.json", record)


def test_no_record_and_no_json_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="there is no"):
        documents.RECORD.read(tmp_path / "record.json")
    write_text(tmp_path / "record.json", "{")
    with pytest.raises(UserError, match=r"record\.json"):
        documents.RECORD.read(tmp_path / "record.json")
