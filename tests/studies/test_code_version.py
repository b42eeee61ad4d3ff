"""A number's version changes with the code behind it, and with nothing else."""

from pathlib import Path

import pytest

from hfgen.studies import code_version
from hfgen.studies.code_version import code_of, meaning

SOURCE = '''
"""What it is."""
import math  # why

def area(r):
    """Of a circle."""
    return math.pi * r**2

STUDY = Study(claims=("a sentence",))
'''


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("# why", "# because"), True),
        (('"""Of a circle."""', '"""Area of a disc."""'), True),
        (("math.pi * r**2", "(math.pi *\n        r**2)"), True),
        (("a sentence", "another"), True),
        (("r**2", "r**3"), False),
        (("area(r)", "area(r, unit=1)"), False),
    ],
)
def test_words_are_no_code(change: tuple[str, str], same: bool):
    assert change[0] in SOURCE
    assert (meaning(SOURCE) == meaning(SOURCE.replace(*change))) is same


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `hfgen` of four files, of which `d` is imported by none."""
    files = {
        "a": "from hfgen.b import f\n",
        "b": "def f():\n    from hfgen import c\n    return c\n",
        "c": "X = 1\n",
        "d": "Y = 1\n",
    }
    for name, source in files.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    code_version._path.cache_clear()
    code_version._read.cache_clear()


@pytest.mark.parametrize(("name", "counts"), [("a", True), ("b", True), ("c", True), ("d", False)])
def test_all_that_is_imported_counts_and_nothing_else(package: Path, name: str, counts: bool):
    before = code_of(["hfgen.a"])
    (package / f"{name}.py").write_text("Z = 2\n" + (package / f"{name}.py").read_text())
    _forget()
    assert (code_of(["hfgen.a"]) != before) is counts
    assert code_of(["hfgen.a"], ("hfgen.c",)) != code_of(["hfgen.a"])


def test_a_family_is_its_own_and_what_it_takes_from_others():
    known = {family: code_version.code_of_cell(family) for family in ("vae", "vaegan", "gan")}
    assert len(set(known.values())) == 3
    measures = {name: code_version.code_of_measure(f"hfgen.studies.{name}") for name in ("noise", "critic")}
    assert len(set(measures.values())) == 2
