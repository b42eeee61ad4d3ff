"""Files that are complete or absent: temporary name, fsync, rename; with the permissions that the umask leaves."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfgen.errors import UserError


def cache_dir() -> Path:
    """Where decoded data and extractors are kept: `$HFGEN_CACHE`, else `~/.cache/hfgen`."""
    return Path(os.environ.get("HFGEN_CACHE") or Path.home() / ".cache" / "hfgen")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def visible_files(folder: Path) -> Iterator[str]:
    """Names of all files below a folder, from there and with `/`, in order, through links but not around in circles.

    Hidden ones are left out. As text, since a path costs more than to look at its file.
    """
    around: dict[str, set[tuple[int, int]]] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        stat, outer = Path(root).stat(), around.pop(root, set())
        own = (stat.st_dev, stat.st_ino)
        folders[:] = [] if own in outer else sorted(name for name in folders if not name.startswith("."))
        around |= {str(Path(root, name)): outer | {own} for name in folders}
        if own not in outer:
            place = Path(root).relative_to(folder).as_posix()
            start = "" if place == "." else f"{place}/"
            yield from (start + name for name in sorted(files) if not name.startswith("."))


def exists(path: Path) -> bool:
    """Whether it is there; what can't be a path isn't."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a NUL in it
        return False


def folder_state(folder: Path) -> str:
    """A hash of the place, and of every visible file's name, size and times of change; `folder` may be one file."""
    digest = hashlib.sha256(repr(str(folder.resolve())).encode())
    for name in ["."] if folder.is_file() else visible_files(folder):
        path = folder / name
        try:
            stat = path.stat()
        except OSError:
            if path.exists():
                raise
            # A link that leads nowhere.
            continue
        # The time of the last change of the content alone may be set by whoever copies a file.
        row = [name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is never visible half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused(path, "tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _fsync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing, can't be read or isn't JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number or a nesting beyond all bounds
        raise UserError(f"{path} is damaged: {error}; make it again") from None


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Fill a temporary folder that becomes `target` on success and vanishes on failure.

    An older `target` is replaced: for an instant it has a hidden name, never half-written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused(target, "tmp")
    temporary.mkdir()
    try:
        yield temporary
        _apply_umask(temporary)
        _fsync_tree(temporary)
        _take_name(temporary, target)
        _fsync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _take_name(temporary: Path, target: Path) -> None:
    replaced = []
    while True:
        try:
            if target.exists():
                old = _unused(target, "old")
                target.replace(old)
                replaced.append(old)
            temporary.replace(target)
            break
        except OSError as error:
            # Another process has just put its folder there, or taken it away.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not temporary.exists():
                raise
    for old in replaced:
        shutil.rmtree(old)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder`; nobody may be writing there."""
    for path in [*folder.glob(".*.tmp*"), *folder.glob(".*.old*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that is complete until it is gone: killed halfway, the rest has a hidden name."""
    hidden = _unused(folder, "old")
    folder.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _unused(path: Path, kind: str) -> Path:
    """A hidden name beside `path`. Not tempfile's: what it makes is closed to everybody else, whatever the umask."""
    return path.with_name(f".{path.name}.{kind}{secrets.token_hex(8)}")


def _apply_umask(folder: Path) -> None:
    """Open what is in a folder as far as new files are: safetensors writes 0600, copies keep their source's mode.

    The umask shows in a new file: to read it is to set it, in every thread.
    """
    probe = folder / ".umask"
    probe.touch(exist_ok=False)
    file_mode, folder_mode = probe.stat().st_mode, folder.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(folder_mode if path.is_dir() else file_mode))


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _fsync(path)
    _fsync(folder)


def _fsync(path: Path) -> None:
    if os.name == "nt":
        # Windows opens no folder, and syncs no file that is open for reading only.
        if path.is_dir():
            return
        handle = os.open(path, os.O_RDWR)
    else:
        handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
