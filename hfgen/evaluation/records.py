"""`record.json`: checked against record.schema.json whenever it is written or read."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.errors import UserError
from hfgen.files import read_json, write_json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

SCHEMA = 1


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole, or not at all.

    Raises:
        UserError: it isn't one; the field is named.
    """
    check_record(record, str(path))
    write_json(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        UserError: there is none, or it isn't one; the field is named.
    """
    if not path.is_file():
        raise UserError(f"record: there is no {path}; `hfgen evaluate` writes one")
    record = read_json(path)
    check_record(record, str(path))
    return record


def check_record(record: Any, place: str) -> None:
    """Refuse what the schema doesn't allow, in one line; `place` is for the error."""
    error = next(iter(sorted(_validator().iter_errors(record), key=lambda found: list(map(str, found.path)))), None)
    if error is not None:
        field = ".".join(map(str, error.path)) or "record"
        raise UserError(f"{field}: {error.message[:200]} ({place}); evaluate again with this version of hfgen")
    for kind in ("metrics", "baseline"):
        for name, entry in record[kind].items():
            # A JSON Schema knows no NaN, and can't compare fields.
            if not -math.inf < entry["low"] <= entry["value"] <= entry["high"] < math.inf:
                wrong = f"{entry['value']} isn't a number within [{entry['low']}, {entry['high']}]"
                raise UserError(f"{kind}.{name}: {wrong} ({place}); evaluate again")


@lru_cache(maxsize=1)
def _validator() -> Validator:
    # Here, because `hfgen --help` needs no validator.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(read_json(Path(__file__).with_name("record.schema.json")))
