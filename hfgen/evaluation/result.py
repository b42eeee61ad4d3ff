"""What was measured of one model, and the images behind it: as a table, and as files."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.documents import RECORD
from hfgen.errors import SettingsError
from hfgen.evaluation.card import dataset_card
from hfgen.evaluation.dataset import write_dataset
from hfgen.files import read_json, write_text
from hfgen.reporting.estimate_tables import Estimates, as_estimates
from hfgen.reporting.pages import data_uri
from hfgen.reporting.pictures import MOST_IMAGES, Strip, png, sheet

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """What was measured of one model, and the images behind it, all uint8 (n, C, R, R) in one order.

    Printed, or at the end of a notebook's cell, it is a table of its metrics.

    Attributes:
        record: The record, as JSON values; see hfgen/schemas.
        originals: Held-out images.
        labels: Their classes (n,), or None.
        reconstructions: Their reconstructions, or None where the model has no encoder.
        samples: Generated images, one a seed; the translations of the held-out conditions, where the model needs a
            condition; None where it draws nothing.
        seeds: Seeds of the samples: `torch.Generator().manual_seed(seed)` draws that one image again. Else [].
        others: Training images that the baseline is measured with, at most n.
        extractor: The judge.
        columns: Per image, what else the dataset holds: metrics of the pair (n,), `posterior_mean` or `codes` (n, L).
        label_names: Names of the classes, where the data have some.
    """

    record: dict[str, Any]
    originals: Tensor
    labels: Tensor | None
    reconstructions: Tensor | None
    samples: Tensor | None
    seeds: list[int]
    others: Tensor | None = None
    extractor: metrics.Extractor | None = None
    columns: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    label_names: list[str] | None = None

    @property
    def estimates(self) -> Estimates:
        """The record's metrics by name, with `.to_pandas()`."""
        return as_estimates(self.record)

    def __repr__(self) -> str:
        model, data = self.record["model"], self.record["data"]
        size = f"{data['resolution']} px" if "resolution" in data else f"{len(data['shapes'])} sizes"
        title = f"{model['id']} on {data['n']} images of {data['id']}, {size}"
        return f"{title}\n{self.estimates}"

    def _repr_html_(self) -> str:
        kinds = {"original": self.originals, "reconstruction": self.reconstructions, "sample": self.samples}
        strips = [Strip(name, images[:MOST_IMAGES]) for name, images in kinds.items() if images is not None]
        title = html.escape(repr(self).partition("\n")[0])
        if not len(self.originals):
            return f"<p>{title}</p>{self.estimates._repr_html_()}"
        picture = f'<img src="{data_uri(png(sheet(strips)))}" alt="{", ".join(strip.label for strip in strips)}">'
        return f"<p>{title}</p>{picture}{self.estimates._repr_html_()}"

    def to_pandas(self) -> pd.DataFrame:
        """A row a metric: `value`, `low`, `high`, `n`."""
        return self.estimates.to_pandas()

    def save(self, folder: str | Path) -> Path:
        """Write `folder`/record.json and `folder`/dataset/, as `evaluate` does with `out`; returns the folder.

        Raises:
            SettingsError: it holds the record of another model or other data.
        """
        out = Path(folder)
        check_out(out, self.record)
        save_evaluation(self, out)
        return out


def without_images(record: dict[str, Any]) -> Evaluation:
    """A record, as a process has it that another one measured for."""
    return Evaluation(record, torch.empty(0, record["data"]["channels"], 0, 0).byte(), None, None, None, [])


def check_out(out: Path | None, record: dict[str, Any], name: str = "record.json") -> None:
    """Refuse a folder that holds a comparison, or the record of another model or other data, in the file `name`.

    Raises:
        SettingsError: it does.
    """
    if out is None:
        return
    if (out / "comparison.json").is_file():
        raise SettingsError(f"out: {out} holds a comparison, whose dataset/ this would replace; choose another --out")
    if not (out / name).exists():
        return
    # Those of older versions, too, are measured again.
    before = read_json(out / name)
    for field in ("model", "data"):
        was = before.get(field, {}).get("id") if isinstance(before, dict) else None
        if was != record[field]["id"]:
            raise SettingsError(f"out: {out} holds the record of another {field} ({was}); choose another --out")


def save_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write `out`/record.json and `out`/dataset/, which `load_dataset` reads and `hfgen evaluate --verify` measures."""
    columns: dict[str, Any] = {"original": evaluation.originals}
    if evaluation.reconstructions is not None:
        columns["reconstruction"] = evaluation.reconstructions
    if evaluation.samples is not None:
        columns["sample"] = evaluation.samples
    if evaluation.others is not None:
        columns["other"] = evaluation.others
    if evaluation.seeds:
        columns["seed"] = evaluation.seeds
    if evaluation.labels is not None:
        columns["label"] = evaluation.labels

    def add(folder: Path) -> None:
        RECORD.write(folder / "record.json", evaluation.record)
        write_text(folder / "README.md", dataset_card(evaluation.record, [*columns, *evaluation.columns]))
        if evaluation.extractor is not None:
            evaluation.extractor.save(folder / "extractor")

    write_dataset({**columns, **evaluation.columns}, out / "dataset", evaluation.label_names, add)
    RECORD.write(out / "record.json", evaluation.record)
