"""From a recipe, a file and dotted overrides to a `RunConfig`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfgen.errors import UserError
from hfgen.families import FAMILIES
from hfgen.recipes import recipe_names, recipe_path
from hfgen.training.config import RunConfig

_BOOLEANS = ("true", "false", "yes", "no")
_SEE = "`hfgen train RECIPE --help` lists them"


def load_config(recipe: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe by name, or a YAML file of the same form, and apply overrides.

    Args:
        recipe: A name of `recipe_names()` (str), or a file (Path).
        overrides: Arguments such as `--max_images=1000` or `--model.latent_channels=32`.

    Raises:
        UserError: unknown recipe or key, or a value of the wrong type; one line that names it.
    """
    from jsonargparse import ArgumentError

    path = recipe if isinstance(recipe, Path) else _recipe_file(recipe)
    family, values = _read(path)
    parser = config_parser(family)
    try:
        chosen = parser.parse_args(list(overrides), namespace=parser.parse_object(values))
    except ArgumentError as error:
        raise UserError(_explain(str(error), parser)) from None
    fields = chosen.as_dict()
    return RunConfig(family=family, model=FAMILIES[family](**fields.pop("model")), **fields)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line: those that are no settings (recipes), and settings as `--name=value`.

    Both come in any order; a setting's value follows it or its `=`. One that needs no value (`--skip_damaged`) takes
    the next word only if that is true or false.
    """
    options = [action for action in config_parser(next(iter(FAMILIES)))._actions if action.nargs == "?"]
    flags = {name for action in options for name in action.option_strings}
    others: list[str] = []
    settings: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            others.append(word)
            continue
        takes_next = "=" not in word and bool(rest) and not _is_option(rest[0])
        if takes_next and (word not in flags or rest[0].lower() in _BOOLEANS):
            word = f"{word}={rest.pop(0)}"
        settings.append(word)
    return others, settings


def refuse_unknown(settings: Sequence[str]) -> None:
    """Refuse what no family has, where no recipe says which family is meant.

    Raises:
        UserError: one of them is unknown; it is named.
    """
    known = {name for family in FAMILIES for action in config_parser(family)._actions for name in action.option_strings}
    for name in (setting.partition("=")[0] for setting in settings):
        if name not in known:
            raise UserError(f"{name.lstrip('-')}: no such setting{_closest(name, sorted(known))}; {_SEE}")


def _is_option(word: str) -> bool:
    """Whether a word begins like an option and isn't a negative number."""
    return re.match(r"-(?!\.?\d|inf|$)", word) is not None


def config_parser(family: str) -> Any:
    """The parser of a family's run: every field of `RunConfig`, and the family's own behind `model.`."""
    from jsonargparse import ActionYesNo, ArgumentParser

    options = {"exit_on_error": False, "add_help": False, "allow_abbrev": False}
    parser = ArgumentParser(**options, usage="hfgen train RECIPE [options]")
    parser.add_class_arguments(RunConfig, skip={"family", "model", "skip_damaged"})
    # With or without a value: errors tell the user to pass `--skip_damaged`, as every other verb takes it.
    help = "Leave damaged images out, and count them, instead of stopping."
    parser.add_argument("--skip_damaged", action=ActionYesNo, nargs="?", default=False, help=help)
    parser.add_class_arguments(FAMILIES[family], "model")
    return parser


def describe_config(recipe: str | Path) -> str:
    """Every setting of a recipe's family, with its meaning and default."""
    family, values = _read(recipe if isinstance(recipe, Path) else _recipe_file(recipe))
    parser = config_parser(family)
    parser.set_defaults({key: value for key, value in values.items() if key != "model"})
    return parser.format_help()


def _recipe_file(name: str) -> Path:
    if name not in recipe_names():
        if Path(name).is_file():
            raise UserError(f"recipe: {name} is a file; give it as --config {name}")
        raise UserError(f"recipe: {name!r} is unknown{_closest(name, recipe_names())}; `hfgen train --help` lists them")
    return recipe_path(name)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """The family's name and the other values of a YAML file."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"config: {path} can't be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config: {path} isn't YAML ({' '.join(str(error).split())}); fix it") from None
    family = values.pop("family", None) if isinstance(values, dict) else None
    if family not in FAMILIES:
        raise UserError(f"family: {family!r} in {path} is unknown; choose one of {', '.join(FAMILIES)}")
    return family, values


def _explain(message: str, parser: Any) -> str:
    """Jsonargparse's message in one line, with the nearest key where the key is unknown."""
    line = " ".join(message.split())
    unknown = re.search(
        r"unrecognized arguments: (\S+)|option '(\S+)' (?:is not accepted)?|option '(\S+)'$", line, re.I
    )
    if unknown:
        key = next(filter(None, unknown.groups())).split("=")[0].lstrip("-")
        prefix = "model." if line.startswith("Group 'model'") else ""
        keys = [action.dest for action in parser._actions]
        return f"{prefix}{key}: no such setting{_closest(prefix + key, keys)}; {_SEE}"
    line = line.replace("<class '", "").replace("'>", "").replace("typing.", "")
    return line.replace('Parser key "', "").replace('": ', ": ", 1)


def _closest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""
