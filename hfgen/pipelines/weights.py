"""Which files hold a network's weights, and what their headers declare before anything is built or read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hfgen.errors import ModelError
from hfgen.files import read_json
from hfgen.hub.downloads import Files

_NAMES = re.compile(r"(?P<stem>diffusion_pytorch_model|model)(?:\.(?P<variant>[\w-]+))?\.safetensors")
_INDICES = re.compile(r"(?P<stem>diffusion_pytorch_model|model)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
_SHARDS = re.compile(r".*-\d{5}-of-\d{5}(?:\.[\w-]+)?\.safetensors")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
CONVERT = (
    "convert it to safetensors (https://huggingface.co/spaces/safetensors/convert; or, where you trust it, load it "
    "with its library and call save_pretrained(FOLDER))"
)
_DTYPES = ("F64", "F32", "F16", "BF16")


class Tensors(NamedTuple):
    """What safetensors files say that they hold.

    Attributes:
        shapes: By name.
        numbers: In all of them.
    """

    shapes: dict[str, tuple[int, ...]]
    numbers: int


def weight_files(files: Files, folder: str, place: str, variant: str | None = None) -> tuple[list[str], str | None]:
    """The paths of a network's safetensors files, their index included, and the variant that they are.

    Args:
        files: Of the place.
        folder: Of the network.
        place: For errors.
        variant: Such as fp16; None: the plain files, or the only variant where there are no plain ones.

    Raises:
        ModelError: there are none, none of this variant, several variants alone, or only pickles.
    """
    names = files.names(folder)
    found = {match["variant"]: name for name in sorted(names) if (match := _NAMES.fullmatch(name))}
    found = {which: name for which, name in found.items() if not _SHARDS.fullmatch(name)}
    indices = {match["variant"]: name for name in sorted(names) if (match := _INDICES.fullmatch(name))}
    chosen = _variant({*found, *indices}, names, place, variant)
    if chosen in found:
        return [_join(folder, found[chosen])], chosen
    index = _join(folder, indices[chosen])
    shards = _shards(files.fetch([index]) / index)
    return [index, *(_join(folder, shard) for shard in shards)], chosen


def has_variant(files: Files, folder: str, variant: str) -> bool:
    """Whether a network has weights of this variant."""
    matches = [_NAMES.fullmatch(name) or _INDICES.fullmatch(name) for name in files.names(folder)]
    return any(match is not None and match["variant"] == variant for match in matches)


def is_weights(name: str) -> bool:
    """Whether a file is called as diffusers and transformers call a network's only one."""
    return _NAMES.fullmatch(name) is not None and not _SHARDS.fullmatch(name)


def variant_of(name: str) -> str | None:
    """The variant that a weights' file is called after; None: plain, or another name."""
    match = _NAMES.fullmatch(name)
    return None if match is None else match["variant"]


def _variant(there: set[str | None], names: frozenset[str], place: str, asked: str | None) -> str | None:
    known = sorted(which for which in there if which is not None)
    if asked is not None and asked not in there:
        has = f"it has {', '.join(known) or 'none'}{' and plain weights' if None in there else ''}"
        raise ModelError(f"variant: {place} has no weights of variant {asked!r}; {has}")
    if asked is not None or None in there:
        return asked
    if len(known) > 1:
        raise ModelError(f"variant: {place} has the variants {', '.join(known)} and no plain weights; name one")
    if known:
        return known[0]
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles:
        raise ModelError(
            f"model: {place} has only {pickles[0]}, a pickle, which may run any code when it is opened; {CONVERT}"
        )
    raise ModelError(f"model: {place} holds no weights (no *.safetensors); save it again, or get all of its files")


def _shards(index: Path) -> list[str]:
    """The files that an index names, in order."""
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{index}: it isn't an index of weights (no weight_map); get the file again")
    shards = sorted(set(names.values()))
    wrong = next((name for name in shards if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name)), None)
    if wrong is not None:
        raise ModelError(
            f"{index}: it names the file {wrong!r}, which isn't a safetensors file beside it; get it again"
        )
    return shards


def read_headers(paths: list[Path]) -> Tensors:
    """What the files hold, by their headers alone.

    Raises:
        ModelError: a file is missing, damaged, or holds numbers that aren't floating-point ones.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        for name, (dtype, shape) in _header(path).items():
            if dtype not in _DTYPES and len(shape) > 1:
                raise ModelError(
                    f"{path}: {name} holds {dtype} numbers; hfgen opens weights of {', '.join(_DTYPES)}: save it so"
                )
            shapes[name] = shape
    return Tensors(shapes, sum(map(math.prod, shapes.values())))


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor of a file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such file; get the checkpoint again, all of it")
    with path.open("rb") as file:
        start = file.read(200)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} can't be loaded: it is a Git LFS pointer, not the file; run `git lfs pull` there")
    if start.lstrip()[:1] == b"<":
        raise ModelError(f"{path} can't be loaded: it is a web page, not the file; download it again")
    try:
        with safe_open(path, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} can't be loaded: {_line(error)}; it is damaged, get the file again") from None


class TooLarge(Exception):
    """A network needs more than its weights' files hold."""


@contextmanager
def bounded(tensors: Tensors) -> Iterator[None]:
    """Stop whatever builds a network with far more parameters than `tensors`.

    Raises:
        TooLarge: at the first parameter beyond; tied ones count three times, hence the factor.
    """
    left = {"tensors": 4 * len(tensors.shapes) + 16, "numbers": 4 * tensors.numbers + 1024}

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        left["tensors"] -= 1
        left["numbers"] -= parameter.numel()
        if min(left.values()) < 0:
            raise TooLarge

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
