"""A record is one, or is refused in a line that names the field."""

import copy
import json
import random
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from hfgen import documents
from hfgen.errors import UserError
from hfgen.files import write_text

ESTIMATE = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 40}
RECORD: dict[str, Any] = {
    "schema": 2,
    "model": {"id": "runs/vae", "revision": None, "family": "vae", "parameters": 10},
    "data": {"id": "glyphs", "revision": None, "split": "test", "n": 40, "resolution": 16, "fingerprint": "a" * 64},
    "protocol": {
        "seed": 0,
        "neighbours": 5,
        "window": "none",
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
        ("schema", 1),
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


VALUES: list[Any] = [
    *(None, True, 0, -1, 10**400, 1.5, float("nan"), float("-inf"), "", "x", "\ud800", "a\nb", [], [1], [[]], {}),
    {"value": 10**400, "low": 0, "high": 1},
    {"low": "0", "value": 1, "high": 2},
]


def changed(record: dict[str, Any], draw: random.Random) -> Any:
    """A record with another value somewhere, one less or one more."""
    record = copy.deepcopy(record)
    inner: Any = record
    while True:
        key = draw.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if isinstance(inner[key], dict | list) and inner[key] and draw.random() < 0.7:
            inner = inner[key]
            continue
        if draw.random() < 0.2:
            del inner[key]
        elif draw.random() < 0.2 and isinstance(inner, dict):
            inner[draw.choice(["extra", "", "value"])] = draw.choice(VALUES)
        else:
            inner[key] = draw.choice(VALUES)
        return record


def test_changed_documents_are_read_or_refused_in_one_line(tmp_path: Path):
    path, ended = tmp_path / "record.json", {"read": 0, "refused": 0}
    for seed in range(400):
        draw = random.Random(seed)
        text = json.dumps(changed(RECORD, draw)).encode()
        if draw.random() < 0.3:
            place = draw.randrange(len(text))
            text = draw.choice([text[:place], text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]])
        path.write_bytes(text)
        document = draw.choice([documents.RECORD] * 3 + [documents.DIAGNOSIS, documents.STUDY])
        try:
            document.read(path)
            ended["read"] += 1
        except UserError as refusal:
            assert "\n" not in str(refusal), f"seed {seed}"
            ended["refused"] += 1
    assert ended["read"] > 10 and ended["refused"] > 200


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b"1" * 5000, b"\xff", b""])
def test_no_json_at_all_is_refused_in_one_line(content: bytes, tmp_path: Path):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError) as refusal:
        documents.RECORD.read(tmp_path / "record.json")
    assert "\n" not in str(refusal.value)


def test_of_code_that_is_not_installed_the_version_is_still_known(monkeypatch: pytest.MonkeyPatch):
    """As of a checkout that PYTHONPATH names: a long evaluation must not end for want of it."""
    import importlib.metadata

    import hfgen

    found = importlib.metadata.Distribution.from_name

    def absent(name: str) -> importlib.metadata.Distribution:
        if name == "hfgen":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", absent)
    assert documents.versions("scipy").keys() == {"hfgen", "torch", "diffusers", "scipy"}
    assert documents.versions()["hfgen"] == hfgen.__version__
