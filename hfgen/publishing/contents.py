"""What of a folder is published, under which names, as what kind of repository."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hfgen.documents import DIAGNOSIS, POSTERIOR, RECORD, STUDY, Document
from hfgen.errors import SettingsError, UserError
from hfgen.evaluation.exact_posterior import read_entry
from hfgen.files import read_json, write_json
from hfgen.folders import home_of, pretrained_folder, run_file, run_of

logger = logging.getLogger("hfgen")

SAMPLES, SHEET = "samples.png", "posterior.png"
_OF_MODELS = ("pretrained", "model_index.json", "config.json", "checkpoints")
_OF_DATASETS = ("record.json", "comparison.json", "data.json")
_OWN_NAMES = ("README.md", "record.json", "diagnosis.json", "study.json", "posterior.json", "run.json", SAMPLES, SHEET)
_STALE = {
    "model": r"(?:[^/]+/)?(?:[^/]+\.safetensors|hfgen_\w+_v\d+\.py)|[^/]+/(?:generation_)?config\.json"
    r"|record\.json|diagnosis\.json|study\.json|posterior\.(?:json|png)|run\.json|samples\.png|\.eval_results/hfgen\.yaml",
    "dataset": r"data/[^/]+\.parquet|extractor/[^/]+|record\.json|comparison\.json|data\.json",
    "space": r"hfgen-[^/]+\.whl",
}
"""Files of an earlier state that would mislead beside the new one; whatever else is there stays."""


class Evidence(NamedTuple):
    """What is known of a model, where it isn't in its folder: each file, or the folder that holds it.

    Attributes:
        record: record.json, of `hfgen evaluate`.
        diagnosis: diagnosis.json, of `hfgen diagnose`.
        study: study.json, of `hfgen study`, which isn't looked for anywhere else.
        posterior: posterior.json, of `hfgen study posterior`, likewise; its figures lie beside it.
    """

    record: Path | None = None
    diagnosis: Path | None = None
    study: Path | None = None
    posterior: Path | None = None


@dataclasses.dataclass
class Contents:
    """A repository as it should be, without its README.

    Attributes:
        kind: Type of the repository.
        root: The folder that most files are from.
        files: The file behind each path in the repository.
        record: A model's record, or a comparison's; {} without one.
        diagnosis: What `hfgen diagnose` found of a model; {} without one.
        study: What `hfgen study` decided on; {} without one.
        posterior: What `hfgen study posterior` found of this model alone; {} without one.
        run: How it was trained (run.json); {} where that isn't known.
        readme: The user's own README.md, if the folder has one.
    """

    kind: Literal["model", "dataset", "space"]
    root: Path
    files: dict[str, Path]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    diagnosis: dict[str, Any] = dataclasses.field(default_factory=dict)
    study: dict[str, Any] = dataclasses.field(default_factory=dict)
    posterior: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    readme: str | None = None

    @property
    def is_evaluation(self) -> bool:
        """Whether it is a dataset of models' images; else it is one of images that models learn from."""
        return self.kind == "dataset" and "data" in self.record

    def is_stale(self, path: str) -> bool:
        """Whether a file that is on the Hub and not here belongs to an earlier state."""
        if self.kind == "space" and not any(name.endswith(".whl") for name in self.files):
            return False
        return path not in self.files and re.fullmatch(_STALE[self.kind], path) is not None


_NONE = Evidence()


def collect(folder: Path, to: str, workspace: Path, evidence: Evidence = _NONE) -> Contents:
    """Tell what `folder` holds; rewritten copies of its JSON go to `workspace`.

    Args:
        folder: A run, its `pretrained/`, a checkpoint; a folder with record.json (or comparison.json, or data.json) and
            dataset/; or a Space, which has app.py.
        to: The repository, whose name replaces the folders of this machine in the records.
        workspace: An empty folder.
        evidence: Of a model.

    Raises:
        UserError: `folder` is none of them, a file of the evidence isn't what it should be, or there is evidence and
            no model.
    """
    if not folder.is_dir():
        raise UserError(f"folder: {folder} isn't a folder; give a run's, an evaluation's or a Space's")
    if (folder / "app.py").is_file():
        _refuse(evidence, folder, "a Space")
        return Contents("space", folder, _files(folder), readme=_readme(folder))
    results = next((folder / name for name in _OF_DATASETS if (folder / name).is_file()), None)
    is_model = any((folder / name).exists() for name in _OF_MODELS)
    if not is_model and results is not None and (folder / "dataset").is_dir():
        _refuse(evidence, folder, "a dataset")
        return _dataset(folder, results, workspace)
    if not is_model:
        raise UserError(
            f"folder: {folder} holds nothing to publish; give a run (pretrained/), an evaluation (record.json and "
            "dataset/) or a Space (app.py)"
        )
    return _model(pretrained_folder(folder), to, workspace, evidence)


def _refuse(evidence: Evidence, folder: Path, kind: str) -> None:
    for field, given in evidence._asdict().items():
        if given is not None:
            raise SettingsError(f"{field}: a model's card tells it, and {folder} is {kind}; leave --{field} out")


def _model(root: Path, to: str, workspace: Path, evidence: Evidence) -> Contents:
    if not any((root / name).is_file() for name in ("model_index.json", "config.json")):
        raise UserError(
            f"folder: {root} holds no pipeline (no model_index.json) and no autoencoder (no config.json); load it with "
            "hfgen and save it first"
        )
    run = run_of(root)
    contents = Contents("model", root, _files(root), readme=_readme(root, run))
    # What a run holds was measured of its last state, not of a checkpoint on the way.
    homes = [root, *([run] if run is not None and root.resolve().parent == run else [])]
    if (record := _measured(RECORD, evidence.record, homes, root)) is not None:
        contents.record = record
        contents.record["model"].update(id=to, revision=None)
        contents.files["record.json"] = _write(workspace / "record.json", contents.record)
    if (diagnosis := _measured(DIAGNOSIS, evidence.diagnosis, homes, root)) is not None:
        contents.diagnosis = diagnosis
        contents.diagnosis["model"]["id"] = to
        contents.files["diagnosis.json"] = _write(workspace / "diagnosis.json", contents.diagnosis)
    if (found := _file_at(evidence.study, "study.json", [])) is not None:
        contents.study = portable(STUDY.read(found))
        contents.files["study.json"] = _write(workspace / "study.json", contents.study)
    if (found := _file_at(evidence.posterior, "posterior.json", [])) is not None:
        _add_posterior(contents, found, to, workspace)
    if (settings := run_file(root)) is not None:
        contents.run = portable(read_json(settings))
        contents.files["run.json"] = _write(workspace / "run.json", contents.run)
    grids = sorted((run / "samples").glob("*.png")) if run is not None else []
    own = root / SAMPLES
    if own.is_file() or grids:
        contents.files[SAMPLES] = own if own.is_file() else _grid_of(root, grids)
    return contents


def _measured(kind: Document, given: Path | None, homes: Sequence[Path], root: Path) -> dict[str, Any] | None:
    """A record or a diagnosis of the model, without what only this machine knows; None where there is none.

    One that lies beside the model and is of other weights, such as those that a run had before it went on, is left out.

    Raises:
        UserError: the one that was given is of other weights.
    """
    if (found := _file_at(given, f"{kind.name}.json", homes)) is None:
        return None
    document: dict[str, Any] = portable(kind.read(found))
    if "weights" not in document["model"] or _is_of(document, root):
        return document
    line = f"{kind.name}: {found} is of other weights than {root} has now"
    if given is not None:
        raise UserError(f"{line}; {kind.verb} this model again")
    logger.warning("%s, and is left out; %s it again", line, kind.verb)
    return None


def _is_of(document: dict[str, Any], root: Path) -> bool:
    # Only for this, and for an exact posterior, does publishing need torch.
    from hfgen.pipelines.weight_digest import is_of

    return is_of(document, root)


def _add_posterior(contents: Contents, path: Path, to: str, workspace: Path) -> None:
    """The entry of this model alone, and its picture.

    Raises:
        UserError: the file is none, or isn't of these weights.
    """
    from hfgen.pipelines.loading import open_model
    from hfgen.pipelines.weight_digest import digest_of_folder
    from hfgen.reporting.exact_answers import sheet_of_entry

    pipeline, folder = open_model(contents.root)
    entry = read_entry(path, digest_of_folder(folder), pipeline.sample_size, str(home_of(contents.root)))
    document = POSTERIOR.read(path)
    if (sheet := sheet_of_entry(path.parent, entry)) is not None:
        contents.files[SHEET] = sheet
    else:
        logger.warning("posterior: %s has no picture of the model, so the card has none", path.parent / "figures")
    own = {**portable(entry), "name": to.split("/")[-1], "id": to}
    contents.posterior = {**portable(document), "models": [own]}
    contents.files["posterior.json"] = _write(workspace / "posterior.json", contents.posterior)


def _file_at(given: Path | None, name: str, homes: Sequence[Path]) -> Path | None:
    """The file that was given, or lies in the folder that was; else that of the first home that holds one."""
    if given is not None:
        return given / name if given.is_dir() else given
    return next((home / name for home in homes if (home / name).is_file()), None)


def _grid_of(root: Path, grids: list[Path]) -> Path:
    """The grid that a checkpoint on the way drew, or the last one."""
    step = root.resolve().parent.name
    return next((grid for grid in grids if step.isdigit() and int(grid.stem) == int(step)), grids[-1])


def _dataset(folder: Path, results: Path, workspace: Path) -> Contents:
    record = portable((RECORD.read if results.name == "record.json" else read_json)(results))
    files = {f"data/{path.name}": path for path in sorted((folder / "dataset").glob("*.parquet"))}
    if not files:
        raise UserError(f"folder: {folder / 'dataset'} holds no parquet file; evaluate again")
    files |= {f"extractor/{path.name}": path for path in sorted((folder / "dataset" / "extractor").glob("*"))}
    files[results.name] = _write(workspace / results.name, record)
    return Contents("dataset", folder, files, record, readme=_readme(folder))


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder`, except hidden ones and what publishing writes itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    hidden = re.compile(r"(?:^|/)(?:\.|__pycache__)")
    return {name: path for name, path in names.items() if name not in _OWN_NAMES and not hidden.search(name)}


def _readme(*folders: Path | None) -> str | None:
    for folder in folders:
        if folder is not None and (folder / "README.md").is_file():
            return (folder / "README.md").read_text(encoding="utf-8")
    return None


def _write(path: Path, value: Any) -> Path:
    write_json(path, value)
    return path


def portable(value: Any) -> Any:
    """JSON values in which a path of this machine has become its last name."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    local = value.startswith(("/", "~", "./", "../")) or (len(value) < 1000 and Path(value).exists())
    return Path(value).name if local else value


def without_local_names(contents: Contents, workspace: Path) -> None:
    """Rewrite the configs in which a library noted the folder that it once loaded them from."""
    for name, path in list(contents.files.items()):
        if not name.endswith("config.json"):
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        if "_name_or_path" in config:
            del config["_name_or_path"]
            contents.files[name] = _write(workspace / name, config)
