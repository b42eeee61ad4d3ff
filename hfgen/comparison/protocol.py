"""Whether records may be compared: the first difference of their protocols, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from hfgen import metrics
from hfgen.errors import SettingsError
from hfgen.evaluation.held_out import EMBEDDED, PIXELS

# The first difference is reported, so causes come before what they change. What isn't named here comes last.
_REMEDIES = {
    "schema": "evaluate both again with this version of hfgen",
    "data.resolution": "compare models of one resolution, or give --resolution, where both take any",
    "data.channels": "compare models of grey images with such, and those of colour with such",
    "data.split": "evaluate both with one --split",
    "data.small_images": "evaluate both with one --small_images",
    "protocol.small_images": "evaluate both with one --small_images",
    "data.fingerprint": "evaluate both on the same --data, prepared alike",
    "data.n": "evaluate both with one --n",
    "protocol.seed": "evaluate both with one --seed",
    "protocol.neighbours": "evaluate both again with this version of hfgen",
    "protocol.window": "evaluate both on the same --data, prepared alike",
    "protocol.dtype": "evaluate both with one --dtype",
    "protocol.extractor.id": "evaluate both in the features of one extractor, --extractor",
    "protocol.extractor.preprocessing": "evaluate both in the features of one extractor, --extractor",
    "protocol.extractor.sha256": "evaluate both on one machine, which trains the extractor once",
}
_OTHERWISE = "evaluate both alike, with one `hfgen compare`"
# How the ids of hfgen's own extractors begin.
_BEGINNINGS = {EMBEDDED: ("hfgen-classifier-", "hfgen-rotation-"), PIXELS: (metrics.PIXEL_JUDGE,)}
# Names of the same pixels, and what only describes the extractor or the machine.
_FREE = (
    "data.id",
    "data.revision",
    "protocol.versions.",
    "protocol.extractor.accuracy",
    "protocol.device",
    "protocol.batch",
    "protocol.threads",
)
_MISSING = "nothing recorded"
# What older records lack; the fingerprint tells a difference there too.
_OPTIONAL = ("data.channels", "protocol.dtype")


def check_same_protocol(records: dict[str, dict[str, Any]]) -> None:
    """Refuse records, by name, of other images or measured otherwise.

    Raises:
        SettingsError: names the first field that differs, both values and the remedy.
    """
    (first, mine), *others = ((name, _protocol(record)) for name, record in records.items())
    for field in dict.fromkeys(chain(_REMEDIES, mine, *(theirs for _, theirs in others))):
        for other, theirs in others:
            if field in _OPTIONAL and not (field in mine and field in theirs):
                continue
            if mine.get(field) != theirs.get(field):
                values = [fields.get(field, _MISSING) for fields in (mine, theirs)]
                raise SettingsError(
                    f"{field}: {values[0]} of {first}, but {values[1]} of {other}; {_REMEDIES.get(field, _OTHERWISE)}"
                )


def check_same_images(models: dict[str, dict[str, int | None]]) -> None:
    """Refuse models, by name, whose images have another `resolution` or other `channels`; None: not known.

    Raises:
        SettingsError: names the first two that differ.
    """
    for field in ("resolution", "channels"):
        known = {name: values[field] for name, values in models.items() if values[field] is not None}
        (first, mine), *others = known.items() or [("", None)]
        for other, theirs in others:
            if theirs != mine:
                remedy = _REMEDIES[f"data.{field}"]
                raise SettingsError(f"{field}: {mine} of {first}, but {theirs} of {other}; {remedy}")


def check_same_settings(records: dict[str, dict[str, Any]], asked: dict[str, Any], extractor: str) -> None:
    """Refuse records, by name, that can't be compared with what would be measured with these settings.

    Args:
        records: Of finished evaluations.
        asked: Fields of the others' protocols, such as `data.n`.
        extractor: Of the others, as `evaluate` takes it.

    Raises:
        SettingsError: names the first setting that differs.
    """
    for name, record in records.items():
        had = _protocol(record)
        judge = had["protocol.extractor.id"]
        others = tuple(start for name, starts in _BEGINNINGS.items() if name != extractor for start in starts)
        if judge.startswith(others) or not judge.startswith(_BEGINNINGS.get(extractor, "")):
            remedy = _REMEDIES["protocol.extractor.id"]
            raise SettingsError(f"extractor: {judge} of {name}, but {extractor} asked; {remedy}")
        for field, value in asked.items():
            # What older records lack is found out by what they have.
            if had.get(field, value) != value:
                raise SettingsError(f"{field}: {had[field]} of {name}, but {value} asked; {_REMEDIES[field]}")


def version_notes(records: dict[str, dict[str, Any]]) -> list[str]:
    """Where libraries' versions or devices differ, which may move numbers slightly; one sentence each."""
    versions = {name: record["protocol"]["versions"] for name, record in records.items()}
    notes = []
    for library in dict.fromkeys(chain.from_iterable(versions.values())):
        found = {name: of.get(library, "no") for name, of in versions.items()}
        if len(set(found.values())) > 1:
            used = ", ".join(f"{version} for {name}" for name, version in found.items())
            notes.append(f"{library}: versions differ ({used})")
    devices = {name: record["protocol"].get("device", "cpu") for name, record in records.items()}
    if len(set(devices.values())) > 1:
        used = ", ".join(f"{device} for {name}" for name, device in devices.items())
        notes.append(f"device: models ran on several, whose rounding differs ({used})")
    return notes


def _protocol(record: dict[str, Any]) -> dict[str, Any]:
    fields = {"schema": record["schema"]}
    for section in ("data", "protocol"):
        fields.update(_flat(record[section], f"{section}."))
    return {name: value for name, value in fields.items() if not name.startswith(_FREE)}


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
