"""Images that other tools made, and held-out images -> the record of their measurements."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hfgen import metrics
from hfgen.data import Data, as_data, batch_indices, found_once, open_store, split_size, stored_side
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.evaluate import finish, protocol_of
from hfgen.evaluation.held_out import FEWEST, MOST, choose_n, held_out_images
from hfgen.evaluation.passes import NOTHING, Made
from hfgen.evaluation.result import Evaluation, check_out, save_evaluation
from hfgen.evaluation.workspace import gather
from hfgen.seeds import check_seed
from hfgen.setting_bounds import whole_number

logger = logging.getLogger("hfgen")


@found_once()
def evaluate_samples(
    samples: Any,
    data: Any,
    *,
    samples_split: str = "all",
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
    small_images: SmallImages = "refuse",
    skip_damaged: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    extractor: str = "embedded",
    resolution: int | None = None,
    out: Path | None = None,
    device: str | torch.device = "auto",
) -> Evaluation:
    """Measure `n` images that other tools made, a DATA of its own or images, against held-out images of `data`.

    `n` is by default as many as there are on both sides, up to 2000; `resolution` that of the first image. Where one
    side is grey and the other one isn't, both are measured in colour, and a note says so. Arguments and errors are
    those of `evaluate`; columns and configuration are those of `data`.
    """
    check_seed(seed)
    compute, data = choose(device), as_data(data)
    with _called_samples():
        samples = as_data(samples)
    with _called_samples():
        _, made = split_size(samples, samples_split)
    choose_n(data, split, _checked(samples, made, n), extractor=extractor, config_name=config_name)
    with _called_samples():
        resolution = resolution or stored_side(samples, samples_split)
    settings: dict[str, Any] = {"small_images": small_images, "skip_damaged": skip_damaged, "resolution": resolution}
    with _called_samples():
        store = open_store(samples, split=samples_split, **settings)
    _checked(samples, len(store), n)
    options: dict[str, Any] = {"split": split, "n": n, "most": min(MOST, len(store)), "seed": seed, **settings}
    options |= {"image_column": image_column, "label_column": label_column, "config_name": config_name}
    options |= {"extractor": extractor, "device": compute.device}
    with metrics.measuring(compute):
        real = held_out_images(data, channels="auto", **options)
        notes = [f"samples: {note}" for note in store.notes]
        if store.channels != real.store.channels:
            grey, coloured = ("samples", "data") if store.channels == 1 else ("data", "samples")
            notes.append(f"channels: the {grey} are grey and the {coloured} aren't; all were measured in colour")
            logger.warning("%s", notes[-1])
            if store.channels == 1:
                store = open_store(samples, split=samples_split, channels=3, **settings)
            else:
                real = held_out_images(data, channels=3, **options)
        facts = {"id": str(samples), "revision": store.revision, "family": "samples"}
        facts |= {"parameters": None, "codebook_size": None}
        record = protocol_of(facts, real, data, seed, {"device": compute.facts()["device"]})
        check_out(out, record)
        images = gather(store.gather, batch_indices(len(store), 0, len(real.images), seed), store.images.shape[1:])
        found = metrics.Collector()
        found.notes += notes
        evaluation = finish(record, real, Made(None, images, NOTHING), [], found)
        if out is not None:
            save_evaluation(evaluation, out)
        return evaluation


@contextlib.contextmanager
def _called_samples() -> Iterator[None]:
    """Errors of the data layer under the names of the options that the samples are given by."""
    try:
        yield
    except DataError as error:
        called = {"data": "samples", "split": "samples_split"}
        raise DataError(re.sub(r"^(data|split):", lambda match: f"{called[match[1]]}:", str(error))) from error


def _checked(samples: Data, made: int, n: int | None) -> int | None:
    """`n`, which may be None, unless the samples are too few."""
    if made < FEWEST:
        raise DataError(f"samples: {samples} holds {made} images, and the fewest to measure are {FEWEST}; add images")
    if n is not None and whole_number("n", n) > made:
        raise SettingsError(f"n: {n} images asked of the {made} in {samples}; give {FEWEST} to {made}")
    return n
