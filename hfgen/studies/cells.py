"""A cell of a study: one small model, trained and measured once, whichever studies ask for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hfgen import metrics
from hfgen.configs import load_config
from hfgen.devices import Compute
from hfgen.evaluation.evaluate import Evaluation, evaluate
from hfgen.evaluation.finished import read_evaluation
from hfgen.metrics import Estimate
from hfgen.pipelines import ImagePipeline, load
from hfgen.studies.code_version import code_of_cell
from hfgen.training.config import RunConfig
from hfgen.training.train import train

RESOLUTION = 16
_CACHE = 4
_COMMON = (
    f"--resolution={RESOLUTION}",
    "--batch_size=16",
    "--warmup_images=640",
    "--ema_half_life=500",
    "--sample_every=0",
    "--checkpoint_every=0",
    "--small_images=pad",
)


class Budget(NamedTuple):
    """What a study costs.

    Attributes:
        images: Seen by a model.
        n: Held-out images, and as many samples.
        seeds: That models are trained from which decide on a sentence.
        seeds_of_curves: The same of those that only stand in charts.
    """

    images: int
    n: int
    seeds: int
    seeds_of_curves: int = 1


BUDGETS = {"smoke": Budget(images=64, n=48, seeds=1), "full": Budget(64_000, n=1_000, seeds=8, seeds_of_curves=2)}


class Cell(NamedTuple):
    """What is trained: a family's settings, on the study's data unless `data` names others.

    `part` of the budget's images are seen. `start` is the cell of the same seed whose networks it begins with.
    """

    family: str
    overrides: tuple[str, ...] = ()
    data: str = ""
    part: float = 1.0
    start: Cell | None = None


Columns = Mapping[str, str | None]
"""`image_column`, `label_column` and `config_name` of DATA, as `hfgen.data.open_store` takes them."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A cell after its training and evaluation, read from its folder when it is asked for.

    Attributes:
        folder: The run's, which also holds record.json and dataset/.
        config: The run.
    """

    folder: Path
    config: RunConfig

    @cached_property
    def pipeline(self) -> ImagePipeline:
        """What the run published, on the CPU."""
        return load(self.folder)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Its record, and the images behind it."""
        return read_evaluation(self.folder)

    @cached_property
    def reconstructions(self) -> Tensor:
        """Of the held-out images, from the posterior's mean or the codes; uint8 (N, C, R, R)."""
        images = self.evaluation.reconstructions
        assert images is not None, "only of cells that reconstruct"
        return images

    @cached_property
    def samples(self) -> Tensor:
        """What it drew; uint8 (N, C, R, R)."""
        images = self.evaluation.samples
        assert images is not None, "only of cells that draw"
        return images

    @cached_property
    def psnr(self) -> Tensor:
        """Of each of them, (N,) dB."""
        return metrics.capped_psnr(self.evaluation.originals, self.reconstructions)

    @cached_property
    def features(self) -> Tensor:
        """Of the held-out images, by the evaluation's own extractor."""
        return self.features_of(self.evaluation.originals)

    def features_of(self, images: Tensor) -> Tensor:
        """The extractor's features of uint8 images (N, C, R, R); float64 (N, D)."""
        return self.judge.features(images)

    @property
    def judge(self) -> metrics.Extractor:
        """The evaluation's own extractor."""
        extractor = self.evaluation.extractor
        assert extractor is not None, "an evaluation that was read has its extractor"
        return extractor

    @cached_property
    def second_judge(self) -> metrics.Extractor:
        """One of another kind, as `hfgen compare` takes it."""
        return metrics.pixel_judge(self.others)

    @property
    def others(self) -> Tensor:
        """The evaluation's training images, uint8 (N, C, R, R)."""
        images = self.evaluation.others
        assert images is not None, "an evaluation that was read has training images"
        return images

    def gained(self, first: Tensor, second: Tensor) -> Estimate:
        """What `sharpness` has for `first` beyond `second`, both reconstructions of the held-out images."""
        more, less, real = map(self._power, (first, second, self.evaluation.originals))
        return metrics.bootstrap_ratio(more - less, real, seed=0, paired=True)

    def sharpness(self, images: Tensor, *, paired: bool) -> Estimate:
        """High-frequency power of uint8 images over that of the held-out ones; `paired`: image by image the same."""
        power, real = map(self._power, (images, self.evaluation.originals))
        return metrics.bootstrap_ratio(power, real, seed=0, paired=paired)

    @property
    def window(self) -> metrics.Window:
        """That of the evaluation's spectra."""
        return self.evaluation.record["protocol"]["window"]

    def _power(self, images: Tensor) -> Tensor:
        return metrics.power_spectrum(images, self.window).high


def config_of(
    cell: Cell, budget: Budget, data: str, seed: int, columns: Columns | None = None, dtype: str = "fp32"
) -> RunConfig:
    """The run that trains a cell from a seed; `columns` are those of `data`, not of data that are the cell's own.

    A run that begins with another cell's networks has that cell's name, which is its hash, as `start_from`.
    """
    own = [f"--data={cell.data or data}", f"--seed={seed}", f"--max_images={round(cell.part * budget.images)}"]
    if not cell.data:
        own += [f"--{name}={column}" for name, column in (columns or {}).items() if column]
    if cell.start is not None:
        start = config_of(cell.start, budget, data, seed, columns, dtype)
        own.append(f"--start_from={cell_folder(Path(), start, budget.n, dtype).name}")
    return load_config(f"{cell.family}-glyphs", [*_COMMON, *own, *cell.overrides])


def cell_folder(cells: Path, config: RunConfig, n: int, dtype: str = "fp32") -> Path:
    """Where a cell lies: the name holds a hash of all that its numbers depend on, the code's version among it."""
    facts = {"schema": _CACHE, "n": n, "config": config.as_dict(), "code": code_of_cell(config.family)}
    if dtype != "fp32":
        facts["dtype"] = dtype
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cells / f"{config.family}-{digest[:12]}"


def train_cell(folder: Path, config: RunConfig) -> None:
    """Train in `folder`, from the cell beside it where the config names one."""
    if config.start_from:
        config = dataclasses.replace(config, start_from=str((folder.parent / config.start_from).resolve()))
    train(config, folder)


def make(folder: Path, config: RunConfig, n: int, compute: Compute) -> Trained:
    """Train and evaluate what `folder` doesn't hold yet; an interrupted one goes on."""
    if not (folder / "record.json").is_file():
        with compute.training():
            train_cell(folder, config)
        where: dict[str, Any] = {"device": compute.device, "dtype": compute.dtype}
        which: dict[str, Any] = {
            name: getattr(config, name) or None for name in ("image_column", "label_column", "config_name")
        }
        evaluate(folder, config.data, n=n, small_images=config.small_images, out=folder, **which, **where)
    return Trained(folder, config)
