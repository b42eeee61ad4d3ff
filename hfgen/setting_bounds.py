"""Bounds of numeric settings: what can't be right is refused by its name, before any work is done."""

from __future__ import annotations

import operator
from typing import Any

from hfgen.errors import SettingsError


def whole_number(name: str, value: Any) -> int:
    """A setting as an int, also where it is an integer of NumPy or torch.

    Raises:
        SettingsError: it is something else.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise SettingsError(f"{name}: {value!r} isn't an integer; give one") from None


def at_least(least: int, settings: object, *names: str, prefix: str = "model.") -> None:
    """Refuse settings below `least`, which is 0 or 1; NaN too.

    Raises:
        SettingsError: the first such setting, its value, and what to give.
    """
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            fault = "too small" if least else "negative"
            raise SettingsError(f"{prefix}{name}: {value} is {fault}; give {least} or more")


def positive(settings: object, *names: str) -> None:
    """Refuse settings of a family that aren't above 0.

    Raises:
        SettingsError: the first such setting, and its value.
    """
    for name in names:
        if not (value := getattr(settings, name)) > 0:
            raise SettingsError(f"model.{name}: {value} isn't positive; give more than 0")


def share(settings: object, *names: str) -> None:
    """Refuse settings of a family that aren't shares, in [0, 1].

    Raises:
        SettingsError: the first such setting, and its value.
    """
    for name in names:
        if not 0 <= (value := getattr(settings, name)) <= 1:
            raise SettingsError(
                f"model.{name}: {value} isn't in [0, 1]; it is a share, not a number of images or steps"
            )


def below_one(settings: object, name: str, remedy: str) -> None:
    """Refuse a setting of a family that isn't in [0, 1), with this remedy.

    Raises:
        SettingsError: the setting, and its value.
    """
    if not 0 <= (value := getattr(settings, name)) < 1:
        raise SettingsError(f"model.{name}: {value} isn't in [0, 1); {remedy}")
