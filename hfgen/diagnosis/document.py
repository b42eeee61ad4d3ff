"""`diagnosis.json`: checked against diagnosis.schema.json whenever it is written or read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.errors import UserError
from hfgen.files import read_json, write_json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

SCHEMA = 1


def write_diagnosis(path: Path, document: dict[str, Any]) -> None:
    """Write a diagnosis whole, or not at all.

    Raises:
        UserError: it isn't one; the field is named.
    """
    _check(document, path)
    write_json(path, document)


def read_diagnosis(path: Path) -> dict[str, Any]:
    """Read a diagnosis.

    Raises:
        UserError: there is none, or it isn't one; the field is named.
    """
    if not path.is_file():
        raise UserError(f"diagnosis: there is no {path}; `hfgen diagnose` writes one")
    document = read_json(path)
    _check(document, path)
    return document


def _check(document: Any, path: Path) -> None:
    error = next(iter(sorted(_validator().iter_errors(document), key=lambda found: list(map(str, found.path)))), None)
    if error is not None:
        field = ".".join(map(str, error.path)) or "diagnosis"
        raise UserError(f"{field}: {error.message[:200]} ({path}); diagnose again with this version of hfgen")


@lru_cache(maxsize=1)
def _validator() -> Validator:
    # Here, because `hfgen --help` needs no validator.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(read_json(Path(__file__).with_name("diagnosis.schema.json")))
