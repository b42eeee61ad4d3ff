"""Archives -> folders in the cache, unpacked once; and whether a tar file is a WebDataset."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock

from hfgen.errors import DataError
from hfgen.files import atomic_folder, cache_dir
from hfgen.limits import free_disk

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", ".npz", *_TARS)
"""Of the archives that can be unpacked; an `.npz` is one of `.npy` files."""

FOREIGN = (".7z", ".rar", ".tar.zst", ".gz", ".xz", ".bz2", ".zst")

_LOOKED_AT = 64


def is_archive(path: Path) -> bool:
    """Whether the name says that it is an archive that can be unpacked."""
    return path.name.lower().endswith(SUFFIXES)


def is_tar(path: Path) -> bool:
    """Whether the name says that it is a tar file, compressed or not."""
    return path.name.lower().endswith(_TARS)


def stem(path: Path) -> str:
    """The archive's name without its suffixes."""
    lower = path.name.lower()
    return path.name[: -max(len(suffix) for suffix in SUFFIXES if lower.endswith(suffix))]


def is_webdataset(path: Path) -> bool:
    """Whether files of one name and several suffixes follow one another, as `1.png` and `1.cls` do.

    Raises:
        DataError: the file is damaged.
    """
    with _readable(path), tarfile.open(path) as tar:
        files = (member.name for member in tar if member.isfile() and not Path(member.name).name.startswith("."))
        looked_at = list(itertools.islice(files, _LOOKED_AT))
    names = [name.rpartition("/")[0] + "/" + name.rpartition("/")[2].partition(".")[0] for name in looked_at]
    return len(set(names)) < len(names)


def unpack(path: Path) -> Path:
    """The folder of an archive's files, made at the first call.

    Raises:
        DataError: the archive is damaged or encrypted, or the disk has no room for it.
    """
    stat = path.stat()
    key = hashlib.sha256(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)).encode())
    folder = cache_dir() / "unpacked" / key.hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            with atomic_folder(folder) as temporary, _readable(path):
                if is_tar(path):
                    with tarfile.open(path) as tar:
                        _check_room(path, sum(member.size for member in tar), folder)
                        _unpack_tar(tar, temporary)
                else:
                    with zipfile.ZipFile(path) as archive:
                        _check_room(path, sum(member.file_size for member in archive.infolist()), folder)
                        archive.extractall(temporary)
    return folder


def _unpack_tar(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack nothing outside of the folder.

    Raises:
        tarfile.TarError: a file would lie outside.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    # Python before 3.11.4 has no filters: files alone, without links.
    files, home = [member for member in tar if member.isfile()], folder.resolve()
    outside = next((file.name for file in files if not (home / file.name).resolve().is_relative_to(home)), None)
    if outside is not None:
        raise tarfile.TarError(f"{outside} would lie outside of the folder")
    for file in files:
        tar.extract(file, folder, set_attrs=False)


class _readable:
    """Whatever the readers of archives raise on damaged ones, as one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        damaged = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError)
        # An encrypted zip file is a RuntimeError.
        if isinstance(error, (*damaged, RuntimeError)) or (isinstance(error, OSError) and error.errno is None):
            reason = " ".join(str(error).split())
            raise DataError(f"data: {self._path} can't be unpacked ({reason}); fetch it again, or unpack it") from error


def _check_room(path: Path, size: int, folder: Path) -> None:
    free = free_disk(folder)
    if size > free:
        raise DataError(
            f"cache: {path} unpacked takes {size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB; "
            "free space, or set HFGEN_CACHE"
        )
