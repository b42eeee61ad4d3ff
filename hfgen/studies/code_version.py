"""Which version of the code a number depends on: a digest of the modules behind it, without comments and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGE = "hfgen"
_ROOT = Path(__file__).parents[1]
_MAKE_NUMBERS = ("torch", "diffusers", "transformers")
_CELL = ("hfgen.training.train", "hfgen.evaluation.evaluate")
# What fetches, stores and tells changes no number of a cell.
_NOT_FOLLOWED = tuple(
    f"{_PACKAGE}.{name}"
    for name in ("reporting", "documents", "errors", "bars", "hub", "folders", "files", "extras", "launch")
)
# A cell's own code stands in its folder's name; the others decide.
_NOT_MEASURED = tuple(
    f"{_PACKAGE}.studies.{name}" for name in ("cells", "code_version", "claims", "effects", "verdicts")
)
# Of a study's file: what says and shows, not what measures.
_SAYS = "STUDY"


@cache
def code_of_cell(family: str) -> str:
    """Of all that trains and evaluates a model of a family, and of the libraries below it."""
    modules = code_of((*_CELL, f"{_PACKAGE}.families.{family}"), _NOT_FOLLOWED)
    libraries = " ".join(f"{name} {version(name)}" for name in _MAKE_NUMBERS)
    return _digest([modules, libraries])


@cache
def code_of_measure(module: str) -> str:
    """Of all that a study's file measures beside a model's record; its sentences and charts don't count."""
    return code_of((module,), (*_NOT_FOLLOWED, *_NOT_MEASURED))


def code_of(modules: Collection[str], leave: Collection[str] = ()) -> str:
    """A digest of modules of hfgen and of all that they import of it, but those below a name in `leave`."""
    seen: dict[str, str] = {}
    waiting = sorted(modules)
    while waiting:
        name = waiting.pop()
        left = any(name == one or name.startswith(f"{one}.") for one in leave)
        if name in seen or left or (path := _path(name)) is None:
            continue
        seen[name], imported = _read(path)
        waiting += imported
    return _digest([f"{name}\n{seen[name]}" for name in sorted(seen)])


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """A module's meaning, and what it imports of hfgen."""
    source = path.read_text(encoding="utf-8")
    return meaning(source), tuple(sorted(set(_imported(ast.parse(source)))))


def meaning(source: str) -> str:
    """Code without comments, layout, docstrings and the definition of a study."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [line for line in node.body if not _is_said(line)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_said(line: ast.stmt) -> bool:
    """A docstring, of whatever it is, or a study."""
    if isinstance(line, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == _SAYS for target in line.targets)
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names of modules of hfgen, wherever in the file they are imported; of a package also what is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == _PACKAGE)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == _PACKAGE:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _path(name: str) -> Path | None:
    """A module's file; None of a name that is none, and of the package's own, which only lists what it has."""
    place = _ROOT.joinpath(*name.split(".")[1:])
    files = place.with_suffix(".py"), place / "__init__.py"
    return None if place == _ROOT else next((path for path in files if path.is_file()), None)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
