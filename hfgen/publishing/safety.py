"""What may be published: no pickles, no code but the checkpoint's own, no trace of this machine, no token."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hfgen.errors import UserError
from hfgen.files import read_json
from hfgen.publishing.contents import SAMPLES, SHEET, Contents

LARGEST = 50_000_000_000
"""Bytes of a file; the Hub asks for smaller ones."""
_MOST_TEXT = 10_000_000
_MOST_SHEET = 5_000_000
_TEXT = (".json", ".md", ".py", ".txt", ".yaml", ".yml", ".toml", ".cfg", ".js", ".css", ".html")
_SUFFIXES = {
    "model": (".safetensors", ".json", ".py", ".md", ".png"),
    "dataset": (".parquet", ".safetensors", ".json", ".md", ".png"),
    "space": (*_TEXT, ".png", ".jpg", ".safetensors", ".parquet", ".whl"),
}
_TOKEN = re.compile(r"\b(?:hf_|api_org_|ghp_)[A-Za-z0-9]{30,}|\bhf_oauth_[\w.-]{30,}|\bgithub_pat_\w{30,}")
_ANYBODYS_PATH = re.compile(r"(?<![\w.:/])(?:/home/|/Users/|/root/|[A-Z]:\\Users\\)[\w.-]+")


def check(contents: Contents, folder: Path, token: str | None) -> None:
    """Refuse what mustn't be published.

    Raises:
        UserError: the first file that is wrong, why, and what to do.
    """
    _check_kinds(contents)
    machine = machine_paths(folder)
    for name, path in contents.files.items():
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{name}: {size / 1e9:.0f} GB are too large for one file; save the weights in shards")
        for text in _texts(name, path):
            check_text(name, text, machine, token)


def check_text(name: str, text: str, machine: list[str], token: str | None) -> None:
    """Refuse a text that holds a token, or a path of this machine or of a home folder."""
    if _TOKEN.search(text) or (token and token in text):
        raise UserError(f"{name}: it holds an access token; remove it, and revoke the token where it was shown")
    here = next((path for path in machine if re.search(rf"(?<![\w.:/-]){re.escape(path)}(?![\w.-])", text)), None)
    if here is None and (found := _ANYBODYS_PATH.search(text)):
        here = found[0]
    if here is not None:
        raise UserError(f"{name}: it names {here}, a folder of this machine; remove it")


def machine_paths(folder: Path) -> list[str]:
    """Folders that say where this was made."""
    places = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), folder.resolve(), folder.resolve().parent}
    return sorted(str(place) for place in places if len(place.parts) > 1)


def _check_kinds(contents: Contents) -> None:
    allowed = _SUFFIXES[contents.kind]
    code = _code_files(contents.root) if contents.kind == "model" else None
    for name, path in contents.files.items():
        suffix = Path(name).suffix
        if suffix not in allowed and not _is_licence(name):
            raise UserError(f"{name}: a {contents.kind} holds {', '.join(allowed)} files only; remove it")
        if suffix == ".py" and code is not None and name not in code:
            raise UserError(f"{name}: model_index.json doesn't name this code; remove it")
        if suffix == ".png" and contents.kind == "model" and name not in (SAMPLES, SHEET):
            raise UserError(f"{name}: no other image than {SAMPLES} is published with a model; remove it")
        if name == SHEET and (size := path.stat().st_size) > _MOST_SHEET:
            raise UserError(f"{name}: {path} has {size / 1e6:.0f} MB, too many for a sheet; study posterior again")
    if contents.kind == "model" and not any(name.endswith(".safetensors") for name in contents.files):
        raise UserError(f"folder: {contents.root} holds no safetensors; save the model again")


def _is_licence(name: str) -> bool:
    return Path(name).name in ("LICENSE", "LICENCE", "NOTICE")


def _code_files(root: Path) -> set[str]:
    """The files of code that model_index.json names: the pipeline's and its networks'."""
    code = set[str]()
    index = root / "model_index.json"
    for name, reference in read_json(index).items() if index.is_file() else ():
        if isinstance(reference, list) and reference and reference[0]:
            place = "" if name == "_class_name" else f"{name}/"
            code.add(f"{place}{reference[0]}.py")
    return code


def _texts(name: str, path: Path) -> Iterator[str]:
    """What can be read of a file: a text, the header of safetensors, the paths beside images in parquet."""
    if name.endswith(_TEXT) or _is_licence(name):
        if path.stat().st_size > _MOST_TEXT:
            raise UserError(f"{name}: {path.stat().st_size / 1e6:.0f} MB of text are too much; publish it elsewhere")
        yield path.read_text(encoding="utf-8", errors="replace")
    elif name.endswith(".safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size - 8:
                raise UserError(f"{name}: it isn't a safetensors file, or it is damaged; save the model again")
            yield json.dumps(json.loads(file.read(length)).get("__metadata__", {}))
    elif name.endswith(".parquet"):
        yield from _parquet_texts(name, path)


def _parquet_texts(name: str, path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: it can't be read ({str(error).splitlines()[0]}); write it again") from None
    yield str(file.schema_arrow.metadata)
    names = [file.schema.column(index).path for index in range(len(file.schema))]
    for column in (column for column in names if column.endswith(".path")):
        for batch in file.iter_batches(columns=[column]):
            yield "\n".join(filter(None, batch.column(0).field("path").to_pylist()))
