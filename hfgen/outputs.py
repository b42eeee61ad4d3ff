"""Where a command writes, checked before its work."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfgen.errors import SettingsError


def given_folder(name: str, place: Any) -> Path:
    """A folder as a caller of Python gives it, which may be missing.

    Raises:
        SettingsError: it is no path, or an empty one; `name` is for the error.
    """
    if not isinstance(place, str | os.PathLike) or not str(place).strip():
        raise SettingsError(f"{name}: {place!r} names no folder; give one")
    return Path(place)


def output_folder(text: str) -> Path:
    """The folder that `--out` names; it may be missing, and nothing is left in it.

    Raises:
        SettingsError: it names none, is a file, lies below one, or can't be written; one line that says why.
    """
    path = given_folder("out", text)
    with _reasons(path):
        if path.is_dir():
            _try_to_write(path, path.name)
        elif os.path.lexists(path):
            raise SettingsError(f"out: {path} is a file; give a folder, --out DIR")
        else:
            _try_to_make(path)
    return path


def check_no_evaluation(out: Path) -> None:
    """Refuse the folder of an evaluation, whose dataset/ a comparison's would replace.

    Raises:
        SettingsError: it is one.
    """
    for name in ("record.json", "whole.json"):
        if (out / name).is_file():
            raise SettingsError(f"out: {out} holds an evaluation ({name}); choose another --out for the comparison")


def output_picture(text: str) -> Path:
    """The picture's file that `--out` names; it may be there already, and is left as it is.

    Raises:
        SettingsError: it is a folder, its ending is no picture's, or it can't be written; one line that says why.
    """
    path = Path(text)
    with _reasons(path):
        if path.is_dir():
            raise SettingsError(f"out: {path} is a folder; give a file, such as --out {path / 'grid.png'}")
        from hfgen.images import picture_format

        picture_format(path)
        if os.path.lexists(path) and not path.is_file():
            raise SettingsError(f"out: {path} isn't a regular file; give a file, such as --out grid.png")
        _try_to_make(path)
    return path


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"out: {path} can't be written ({error.strerror}); choose another --out") from None


def _try_to_make(path: Path) -> None:
    """Make and remove a folder called like the first part of `path` that is missing."""
    for folder in path.absolute().parents:
        if folder.is_dir():
            return _try_to_write(folder, path.absolute().relative_to(folder).parts[0])
        if os.path.lexists(folder):
            raise SettingsError(f"out: {folder}, which {path} lies below, is a file; choose another --out")
    raise AssertionError("every path lies below a folder")


def _try_to_write(folder: Path, name: str) -> None:
    # As `hfgen.files` calls what isn't finished: so a name that is too long for that is found here.
    shutil.rmtree(tempfile.mkdtemp(dir=folder, prefix=f".{name}.tmp"))
