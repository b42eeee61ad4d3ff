"""The JSON files that commands write for others to read: each checked against its schema, written and read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen import __version__
from hfgen.errors import UserError
from hfgen.files import read_json, write_json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_SCHEMAS = Path(__file__).with_name("schemas")


@dataclasses.dataclass(frozen=True)
class Document:
    """A kind of file.

    Attributes:
        name: What one is called: `name`.json, whose schema is schemas/`name`.schema.json.
        verb: The command of `hfgen` that writes one.
        version: Of the schema.
    """

    name: str
    verb: str
    version: int = 1

    def write(self, path: Path, value: dict[str, Any]) -> None:
        """Write one completely, or not at all.

        Raises:
            UserError: it isn't one; the field is named.
        """
        self.check(value, path)
        write_json(path, value)

    def read(self, path: Path) -> dict[str, Any]:
        """Read one.

        Raises:
            UserError: there is none, or it isn't one; the field is named.
        """
        if not path.is_file():
            if self.name == "record":
                refuse_whole(path.parent)
            raise UserError(f"{self.name}: there is no {path}; `hfgen {self.verb}` writes one")
        value = read_json(path)
        self.check(value, path)
        return value

    def check(self, value: Any, path: Path) -> None:
        """Refuse what isn't one, in one line; `path` is for the error."""
        try:
            errors = sorted(_validator(self.name).iter_errors(value), key=_place)
            estimates = [] if errors else list(_estimates(value, ()))
        except RecursionError:
            raise UserError(f"{self.name}: nested too deeply ({path}); {self.verb} again") from None
        if errors:
            field = ".".join(map(str, errors[0].path)) or self.name
            remedy = f"{self.verb} again with this version of hfgen"
            raise UserError(f"{field}: {_line(errors[0].message)} ({path}); {remedy}")
        for field, low, number, high in estimates:
            # A JSON Schema knows no NaN, and can't compare fields.
            if not -math.inf < low <= number <= high < math.inf:
                wrong = f"{number} isn't a number within [{low}, {high}]"
                raise UserError(f"{field}: {wrong} ({path}); {self.verb} again")


RECORD = Document("record", "evaluate", version=2)
WHOLE = Document("whole", "evaluate --crop none")
DIAGNOSIS = Document("diagnosis", "diagnose", version=3)
STUDY = Document("study", "study", version=2)
POSTERIOR = Document("posterior", "study posterior", version=2)
DECODERS = Document("decoders", "study decoders")


def refuse_whole(folder: Path) -> None:
    """Refuse a folder that `evaluate --crop none` wrote where a record is needed.

    Raises:
        UserError: it is one.
    """
    if (folder / "whole.json").is_file() and not (folder / "record.json").is_file():
        what = f"{folder} holds whole.json of `--crop none`, whose images have shapes of their own"
        raise UserError(f"record: {what}; `hfgen evaluate` without --crop none writes what this takes")


def _place(error: Any) -> tuple[bool, list[str]]:
    """Of another version's file, that comes first: its other errors follow from it."""
    path = list(map(str, error.path))
    return path != ["schema"], path


def _estimates(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, float, float, float]]:
    """Every number with an interval, and its place."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    found = [value.get(name) for name in ("low", "value", "high")]
    numbers = [_float(number) for number in found if isinstance(number, (int, float))]
    if len(numbers) == 3:
        yield ".".join(path), numbers[0], numbers[1], numbers[2]
    for name, item in value.items():
        yield from _estimates(item, (*path, str(name)))


def _float(number: float) -> float:
    """Infinity, where an integer is beyond all floating-point numbers."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _line(message: str) -> str:
    return " ".join(message.split())[:200]


@lru_cache
def _validator(name: str) -> Validator:
    # Here, because `hfgen --help` needs no validator.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(read_json(_SCHEMAS / f"{name}.schema.json"))


def versions(*more: str) -> dict[str, str]:
    """Those of what computes a document's numbers, by name; of hfgen the one that runs, installed or not."""
    return {"hfgen": __version__, **{name: version(name) for name in ("torch", "diffusers", *more)}}
