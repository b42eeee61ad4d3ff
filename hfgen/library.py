"""What a script or a notebook calls: whole tasks as functions; the commands of these names are thin shells around them.

`hfgen.evaluate` and `hfgen.Evaluator` come from where their work is done.
"""

from __future__ import annotations

import contextlib
import html
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hfgen.errors import SettingsError
from hfgen.imports import without_collector
from hfgen.metrics import Estimate
from hfgen.outputs import check_no_evaluation, given_folder
from hfgen.reporting.estimate_tables import Estimates, as_estimates, html_table
from hfgen.reporting.pages import data_uri

if TYPE_CHECKING:
    import pandas as pd

    from hfgen.training.config import RunConfig

_OF_A_CAUSE = ("cause", "score", "of", "low", "high")


@dataclass(frozen=True, repr=False)
class _Written:
    """What was found, and the folder that says it in full."""

    record: dict[str, Any]
    folder: Path

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


@dataclass(frozen=True, repr=False)
class Comparison(_Written):
    """Several models on the same images. Printed, it is the report's sentences; in a notebook, these and a table.

    Attributes:
        record: comparison.json.
        folder: That was written: comparison.json, report.html, grid.png, figures/, dataset/.
    """

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


@dataclass(frozen=True, repr=False)
class Diagnosis(_Written):
    """What is wrong with one model. Printed, it is the verdict, the causes and the advice; a notebook adds the picture.

    Attributes:
        record: diagnosis.json.
        folder: That was written: diagnosis.json, report.html and, where there are causes, waterfall.png.
    """

    def __repr__(self) -> str:
        verdict = self.record["verdict"]
        lines = [f"{verdict['sentence']} (confidence {verdict['confidence']:.0%})"]
        lines += [f"{entry['cause']:<24} {entry['score']:.2f} of {entry['of']}" for entry in self.record["ranking"]]
        lines += [f"- {sentence}" for sentence in self.sentences]
        lines += [f"to change: {verdict['remedy']}"] if verdict["remedy"] else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.record["notes"])])

    @property
    def sentences(self) -> list[str]:
        """The advice and, where there is one, what tells the model from the other."""
        return [*self.record["advice"], *self.record.get("against", {}).get("sentences", [])]

    def _repr_html_(self) -> str:
        verdict, picture = self.record["verdict"], self.folder / "waterfall.png"
        image = f'<img src="{data_uri(picture.read_bytes())}" alt="causes">' if picture.is_file() else ""
        advice = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        remedy = f"<p><code>{html.escape(verdict['remedy'])}</code></p>" if verdict["remedy"] else ""
        causes = {name: Estimate(**one) for name, one in self.record["causes"].items()}
        table = html_table({"share [95 % interval]": causes}, self.record["notes"])
        return f"<p><b>{html.escape(verdict['sentence'])}</b></p>{image}<ul>{advice}</ul>{remedy}{table}"

    def to_pandas(self) -> pd.DataFrame:
        """A row a cause, the first one first: `score`, `of` and, where it was measured, `low` and `high`."""
        import pandas as pd

        rows = [
            {key: {**self.record["causes"].get(entry["cause"], {}), **entry}.get(key) for key in _OF_A_CAUSE}
            for entry in self.record["ranking"]
        ]
        return pd.DataFrame(rows).set_index("cause")


def compare(
    models: Sequence[Any] | Mapping[str, Any],
    data: Any | None = None,
    out: str | Path = "runs/comparison",
    *,
    posterior: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Comparison:
    """Measure several models on the same images, write the report, and say how they differ.

    Args:
        models: MODELs as `hfgen.load` opens them, folders that `hfgen.evaluate` wrote, or what is loaded, as
            `hfgen.evaluate` takes it: networks, pipelines, functions; a list, or by the names to show.
        data: DATA, or images, as `hfgen.evaluate` takes them; None where all are folders that it wrote.
        out: Folder for comparison.json, report.html, figures/, dataset/ and each model's own record.
        posterior: What `hfgen study posterior` wrote, for the report to show: its folder; None: one beside the models.
        device: See `hfgen.evaluate`.
        dtype: See `hfgen.evaluate`.
        settings: What else `hfgen.evaluate` takes, such as `n`, `split`, `seed`, `resolution` and `extractor`.

    Raises:
        UserError: what `hfgen.evaluate` refuses, a model given twice, models of different sizes or channels, or a
            `posterior` of others.
    """
    folder = given_folder("out", out)
    check_no_evaluation(folder)
    with without_collector():
        from hfgen.comparison.compare import compare as compare_evaluations
        from hfgen.comparison.exact_posteriors import exact_posteriors
        from hfgen.comparison.measuring import check_settings, measure_models, named_models

    places = named_models(models)
    answers = None if posterior is None else given_folder("posterior", posterior)
    chosen: dict[str, Any] = {name: settings.get(name) for name in ("variant", "resolution")}
    # Before a posterior is looked up, which opens the models.
    check_settings(settings)
    exact = exact_posteriors(places, answers, **chosen)
    if data is None and exact is not None:
        # They have served: the answers were looked up by them.
        settings = {name: value for name, value in settings.items() if name not in chosen}
    evaluations, costs = measure_models(places, data, folder, device=device, dtype=dtype, **settings)
    return Comparison(compare_evaluations(evaluations, folder, costs=costs, exact=exact, device=device), folder)


def diagnose(
    model: Any,
    data: Any,
    out: str | Path = "runs/diagnosis",
    *,
    budget: Literal["small", "full"] = "small",
    **settings: Any,
) -> Diagnosis:
    """Find out why a model's images are blurred, or that they aren't; see `hfgen.diagnosis.diagnose.diagnose`.

    Args:
        model: What `hfgen.evaluate` takes.
        data: Likewise.
        out: Folder for diagnosis.json, report.html and waterfall.png.
        budget: Of the interventions: `small` or `full`.
        settings: `n`, `split`, `seed`, `resolution`, `tile`, `extractor`, `refits`, `against` (another model),
            `posterior` (the folder of a posterior.json), `device`, `dtype` and what else `hfgen.evaluate` takes of the
            data.

    Raises:
        UserError: what `hfgen.evaluate` refuses, an unknown budget, too few images, or images without detail.
    """
    with without_collector():
        from hfgen.diagnosis.diagnose import diagnose as diagnose_model

    folder = given_folder("out", out)
    return Diagnosis(diagnose_model(model, data, out=folder, budget=budget, **settings), folder)


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
        named: Settings of the recipe. `data` may be images, too, as `hfgen.data.as_data` takes them; a hash of them
            then names them, by which a repeated call knows them.

    Raises:
        UserError: an unknown recipe, setting or `resume`, bad data, `out` holds another run, or a non-finite loss.
    """
    if resume not in ("auto", "never"):
        raise SettingsError(f"resume: {resume!r} is unknown; give auto or never")
    with without_collector():
        from hfgen.configs import load_config
        from hfgen.data import Held, as_data
        from hfgen.data.sources import named_data
        from hfgen.outputs import output_folder
        from hfgen.training.train import train as train_config

    asked = {**named, **(settings or {})}
    with contextlib.ExitStack() as held:
        if "data" in asked:
            data = as_data(asked["data"])
            if isinstance(data, Held) and asked.get("config_name"):
                raise SettingsError(f"config_name: {data} has no configurations; leave it out")
            asked["data"] = held.enter_context(named_data(data))
        if isinstance(recipe, (str, Path)):
            config = load_config(recipe, [f"--{name}={_word(name, value)}" for name, value in asked.items()])
            out = out or output_folder(f"runs/{Path(recipe).stem}")
        else:
            config = recipe
            if asked or out is None:
                name = next(iter(asked), "out")
                reason = (
                    "a config is complete; change it before" if asked else "a config has no name; give the run's folder"
                )
                raise SettingsError(f"{name}: {reason}")
        held.enter_context(_on(device))
        return train_config(config, Path(out), resume=resume, on_checkpoint=on_checkpoint)


def _word(name: str, value: Any) -> str:
    """A setting's value as the command line takes it.

    Raises:
        SettingsError: it is none, as a loaded model.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, Path, bool, int, float)):
        remedy = "save it, and give its folder" if hasattr(value, "save_pretrained") else "give text or a number"
        remedy = "leave it out" if value is None else remedy
        raise SettingsError(f"{name}: {type(value).__name__} is no value of a setting; {remedy}")
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
