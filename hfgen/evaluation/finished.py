"""A finished evaluation's folder -> what was measured and the images behind it, without the model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hfgen.documents import RECORD, refuse_whole
from hfgen.errors import ModelError, UserError
from hfgen.evaluation.dataset import read_dataset
from hfgen.evaluation.evaluate import Evaluation
from hfgen.files import exists
from hfgen.folders import pretrained_folder
from hfgen.metrics import load_extractor
from hfgen.pipelines.weight_digest import is_of

_IMAGES = ("original", "reconstruction", "sample", "other")
# What only the folder of a model or of its run holds.
_OF_MODELS = ("model_index.json", "config.json", "pretrained", "checkpoints")


def is_finished(folder: Path, *, given_data: bool) -> bool:
    """Whether to read the evaluation in `folder` instead of measuring a model.

    A run's folder may hold both: its model is measured where data are given.

    Raises:
        UserError: no data are given, and no evaluation is there.
    """
    has_model = any((folder / part).exists() for part in _OF_MODELS)
    if not (given_data and has_model):
        refuse_whole(folder)
    has_record = (folder / "record.json").is_file()
    finished = has_record and (folder / "dataset").is_dir()
    if not finished and not given_data:
        if has_record and any(folder.glob("*.parquet")):
            raise UserError(f"{folder} is an evaluation's dataset; give the folder that holds it")
        if has_record:
            raise UserError(f"{folder}: dataset/ is missing beside record.json; evaluate the model again")
        missing = f"data: none given, and {folder} holds no record.json"
        if not exists(folder):
            raise UserError(f"{missing}: it isn't a folder; check its path, or give --data to measure one of the Hub")
        raise UserError(f"{missing} with dataset/; give --data to measure it")
    return finished and not (given_data and has_model)


def read_record(folder: Path) -> dict[str, Any]:
    """A finished evaluation's record.json; where the folder holds its model too, of the weights that this has.

    Raises:
        UserError: there is none, or the model went on since.
    """
    record = RECORD.read(folder / "record.json")
    if "weights" in record["model"] and any((folder / part).exists() for part in _OF_MODELS):
        # What holds no weights any more has no others either.
        with contextlib.suppress(ModelError):
            if not is_of(record, pretrained_folder(folder)):
                fault = f"record: that of {folder} is of other weights than the model has now"
                raise UserError(f"{fault}; give --data to measure it again")
    return record


def read_evaluation(folder: Path) -> Evaluation:
    """Read `folder`/record.json and `folder`/dataset/.

    Raises:
        UserError: one of them is missing, damaged, or they don't fit each other.
    """
    record, dataset = RECORD.read(folder / "record.json"), folder / "dataset"
    columns = read_dataset(dataset, (*_IMAGES, "label", "seed"))
    if not (dataset / "extractor").is_dir():
        raise UserError(f"{dataset}: extractor/ is missing; evaluate the model again")
    extractor = load_extractor(dataset / "extractor")
    needed = ("original", "sample") if "sample" in record["spectrum"] else ("original",)
    count, missing = record["data"]["n"], [name for name in needed if name not in columns]
    odd = [name for name in _IMAGES if name in columns and len(columns[name]) != count and name != "other"]
    if missing or odd or extractor.sha256 != record["protocol"]["extractor"]["sha256"]:
        reason = f"{', '.join(missing + odd)}: not {count} images" if missing or odd else "another extractor"
        raise UserError(f"{folder}: record.json and dataset/ don't fit: {reason}; evaluate the model again")
    return Evaluation(
        record,
        columns["original"],
        columns.get("label"),
        columns.get("reconstruction"),
        columns.get("sample"),
        columns["seed"].tolist() if "seed" in columns else [],
        columns.get("other"),
        extractor,
    )
