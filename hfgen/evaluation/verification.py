"""An evaluation dataset, measured again by itself: the record's numbers, bit for bit?"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.devices import Compute, choose, cpu_threads
from hfgen.documents import RECORD
from hfgen.errors import SettingsError, UserError
from hfgen.evaluation.dataset import read_dataset
from hfgen.evaluation.measurement import DISTANCES, measure
from hfgen.evaluation.pair_metrics import PAIRS
from hfgen.evaluation.real_images import real_images
from hfgen.hub.addresses import parse_address
from hfgen.hub.downloads import download
from hfgen.limits import usable_cores
from hfgen.metrics import load_extractor

logger = logging.getLogger("hfgen")

_IMAGES = ("original", "reconstruction", "sample", "other")
_ENCODINGS = ("posterior_mean", "rate_bits", "codes")
# Those need the model.
_OF_THE_MODEL = ("metrics.reading_height",)


_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?:@\S+)?")
_PUBLISHED = ("record.json", "data/*", "extractor/*")


def verify(place: str | Path, *, device: str = "auto") -> int:
    """Measure an evaluation dataset again and compare; returns how many numbers are the same.

    No model and no other data is needed. As many CPU threads compute as then, since sums of several depend on their
    number. Bits are the same on the machine and the device that measured; another processor or another version of
    torch may round differently, and is reported with both numbers.

    Args:
        place: What `hfgen evaluate` wrote, its `dataset/`, or `org/name[@revision]`, where it was published.
        device: Where to measure; `auto` is the kind of device that the record names, or the CPU where it isn't here.

    Raises:
        UserError: the dataset is damaged or can't be fetched, or a number differs; the first is named, and how many
            more.
    """
    folder = _folder_of(place)
    record = RECORD.read(folder / "record.json")
    # Written: all in dataset/. Published: the images in data/, the extractor at the top.
    home = folder / "dataset" if (folder / "dataset").is_dir() else folder
    dataset = home / "data" if (home / "data").is_dir() else home
    extractor = load_extractor(home / "extractor")
    if extractor.sha256 != record["protocol"]["extractor"]["sha256"]:
        raise UserError("verify: protocol.extractor.sha256: the dataset's extractor isn't the record's; get both again")
    seed, codebook_size = record["protocol"]["seed"], record["model"].get("codebook_size")
    columns = read_dataset(dataset, (*_IMAGES, *_ENCODINGS, *PAIRS, *DISTANCES))
    for name in ("original", "other"):
        if name not in columns:
            raise UserError(f"verify: {dataset} has no column {name!r}; get it again")
    encodings = {name: columns[name] for name in _ENCODINGS if name in columns}
    # Those need the training images, which the dataset doesn't hold.
    distances = {name: columns[name] for name in DISTANCES if name in columns}
    compute = _compute(device, record["protocol"].get("device", "cpu"))
    recorded = record["protocol"].get("threads")
    # More threads than cores wait for each other, ten times as long.
    fits = recorded is not None and recorded <= usable_cores()
    threads = recorded if fits else torch.get_num_threads()
    with cpu_threads(threads), metrics.measuring(compute):
        real = real_images(columns["original"], columns["other"], None, extractor.to(compute.device), seed)
        images = columns.get("reconstruction"), columns.get("sample")
        draws = "sampler" in record["model"]
        again = measure(real, *images, seed, encodings, codebook_size, distances or None, draws=draws)
    kinds = [kind for kind in ("metrics", "baseline", "spectrum", "judge_power") if kind in record]
    stored = {**_flat({kind: record[kind] for kind in kinds}), **_pairs(columns)}
    stored = {name: value for name, value in stored.items() if not name.startswith(_OF_THE_MODEL)}
    measured = {**_flat({kind: again.record[kind] for kind in kinds}), **_pairs(again.columns)}
    fault = _difference(stored, measured)
    if fault is not None:
        before = "unknown" if recorded is None else recorded
        other = "" if threads == recorded else f" (CPU threads: {threads}, then {before}, which may round differently)"
        raise UserError(f"verify: {fault}; evaluate again, or don't use it{other}")
    return len(stored)


def _compute(asked: str, recorded: str) -> Compute:
    if asked != "auto":
        return choose(asked)
    try:
        return choose(recorded.partition(":")[0])
    except SettingsError:
        logger.warning("verify: measured on %s, which isn't available here; the CPU may round differently", recorded)
        return choose("cpu")


def _folder_of(place: str | Path) -> Path:
    if Path(place).exists() or not _HUB_ID.fullmatch(str(place)):
        return Path(place)
    return download(parse_address(str(place), field="verify"), _PUBLISHED, kind="dataset")


def _difference(stored: dict[str, Any], measured: dict[str, Any]) -> str | None:
    different = [name for name in stored.keys() | measured.keys() if stored.get(name) != measured.get(name)]
    if not different:
        return None
    # Of metrics before per-image numbers, which are many.
    first = min(different, key=lambda name: (not name.startswith("metrics"), name))
    was, now = stored.get(first, "absent"), measured.get(first, "absent")
    more = f", and so {len(different) - 1} more" if len(different) > 1 else ""
    return f"{first}: {was} in the record, but {now} measured{more}"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {name: leaf for key, part in items for name, leaf in _flat(part, f"{path}.{key}".lstrip(".")).items()}


def _pairs(columns: dict[str, Tensor]) -> dict[str, float]:
    return {
        f"{name}, image {index}": value
        for name in PAIRS
        if name in columns
        for index, value in enumerate(columns[name].to(torch.float64).tolist())
    }
