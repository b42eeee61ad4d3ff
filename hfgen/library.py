"""What a script or a notebook calls: whole tasks as functions; the commands of these names are thin shells around them.

`hfgen.evaluate`, `hfgen.diagnose` and `hfgen.Evaluator` come from where their work is done.
"""

from __future__ import annotations

import contextlib
import html
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.errors import SettingsError
from hfgen.reporting.estimate_tables import Estimates, as_estimates, html_table

if TYPE_CHECKING:
    import pandas as pd

    from hfgen.training.config import RunConfig


@dataclass(frozen=True, repr=False)
class Comparison:
    """Several models on the same images. Printed, it is the report's sentences; in a notebook, these and a table.

    Attributes:
        record: comparison.json.
        folder: That was written: comparison.json, report.html, grid.png, figures/, dataset/.
    """

    record: dict[str, Any]
    folder: Path

    @property
    def estimates(self) -> dict[str, Estimates]:
        """Metrics by model and name."""
        return {name: as_estimates(model) for name, model in self.record["models"].items()}

    def __repr__(self) -> str:
        notes = (f"note: {note}" for note in self.record["notes"])
        return "\n".join([*(f"- {sentence}" for sentence in self.record["reading"]), *notes])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.record["reading"])
        return f"<ul>{sentences}</ul>{html_table(self.estimates, self.record['notes'])}"

    def to_pandas(self) -> pd.DataFrame:
        """A row a model and metric: `value`, `low`, `high`, `n`."""
        import pandas as pd

        return pd.concat({name: found.to_pandas() for name, found in self.estimates.items()}, names=["model"])

    def save(self, folder: str | Path) -> Path:
        """Copy what was written to another folder, and return it.

        Raises:
            SettingsError: it exists and isn't empty.
        """
        out = Path(folder)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SettingsError(f"folder: {out} isn't empty; choose another")
        shutil.copytree(self.folder, out, dirs_exist_ok=True)
        return out


def compare(
    models: Sequence[Any] | Mapping[str, Any],
    data: str | None = None,
    out: str | Path = "runs/comparison",
    *,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Comparison:
    """Measure several models on the same images, write the report, and say how they differ.

    Args:
        models: MODELs as `hfgen.load` opens them, folders that `hfgen.evaluate` wrote, loaded autoencoders of diffusers
            or pipelines; a list, or by the names to show.
        data: DATA; None where all are folders that `hfgen.evaluate` wrote.
        out: Folder for comparison.json, report.html, figures/, dataset/ and each model's own record.
        device: See `hfgen.evaluate`.
        dtype: See `hfgen.evaluate`.
        settings: What else `hfgen.evaluate` takes, such as `n`, `split`, `seed`, `resolution` and `extractor`.

    Raises:
        UserError: what `hfgen.evaluate` refuses, a model given twice, or models of different sizes or channels.
    """
    from hfgen.comparison.compare import compare as compare_evaluations
    from hfgen.comparison.measuring import measure_models

    folder = Path(out)
    evaluations, costs = measure_models(models, data, folder, device=device, dtype=dtype, **settings)
    return Comparison(compare_evaluations(evaluations, folder, costs=costs, device=device), folder)


def train(
    recipe: str | Path | RunConfig,
    out: str | Path | None = None,
    *,
    resume: str = "auto",
    device: str = "auto",
    on_checkpoint: Callable[[Path, int], None] | None = None,
    settings: Mapping[str, Any] | None = None,
    **named: Any,
) -> Path:
    """Train a recipe and return the folder of the pipeline, which `hfgen.load` and diffusers open.

    `hfgen.train("vae-glyphs", max_images=2000, settings={"model.width": 16})` is what
    `hfgen train vae-glyphs --max_images 2000 --model.width 16` does: repeated, it continues an interrupted run.

    Args:
        recipe: A recipe's name, a YAML file (Path), or a config.
        out: The run's folder; None: runs/RECIPE.
        resume: `auto` continues the run in `out`; `never` refuses a folder that holds one.
        device: auto (what Accelerate chooses), cpu, cuda, cuda:N or mps.
        on_checkpoint: Called with the folder and the images seen of each checkpoint.
        settings: Settings of the recipe whose names have a dot.
        named: Settings of the recipe.

    Raises:
        UserError: an unknown recipe or setting, bad data, `out` holds another run, or a non-finite loss.
    """
    from hfgen.configs import load_config
    from hfgen.outputs import output_folder
    from hfgen.training.train import train as train_config

    asked = {**named, **(settings or {})}
    if isinstance(recipe, (str, Path)):
        config = load_config(recipe, [f"--{name}={_word(value)}" for name, value in asked.items()])
        out = out or output_folder(f"runs/{Path(recipe).stem}")
    else:
        config = recipe
        if asked or out is None:
            name = next(iter(asked), "out")
            reason = (
                "a config is complete; change it before" if asked else "a config has no name; give the run's folder"
            )
            raise SettingsError(f"{name}: {reason}")
    with _on(device):
        return train_config(config, Path(out), resume=resume, on_checkpoint=on_checkpoint)


def _word(value: Any) -> str:
    """A value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _on(device: str) -> contextlib.AbstractContextManager[None]:
    """Where Accelerate is told to train.

    Raises:
        SettingsError: this machine has no such device, or a launcher gave each process its own.
    """
    if device == "auto":
        return contextlib.nullcontext()
    from hfgen.devices import Compute, choose_device, launched

    if launched():
        raise SettingsError(f"device: {device}, but the launcher gives each process its own; leave --device out")
    return Compute(choose_device(device)).training()
