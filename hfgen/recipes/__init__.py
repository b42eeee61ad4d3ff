"""Complete run configs by name: YAML files, whose first line says what each is."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The names that `hfgen train` takes."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe of `recipe_names`."""
    return _FOLDER / f"{name}.yaml"


def recipe_summary(name: str) -> str:
    """The recipe's one-line description."""
    with recipe_path(name).open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
