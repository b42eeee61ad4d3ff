"""Records -> README.md: metadata and a marked section of our own, beside the user's text."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from hfgen.data_options import BUILT_IN
from hfgen.errors import UserError
from hfgen.hub.addresses import parse_address
from hfgen.publishing.contents import SAMPLES, SHEET, Contents

BEGIN = "<!-- hfgen: begin. Publishing writes this section anew; text outside of it is yours. -->"
END = "<!-- hfgen: end -->"
_OURS = re.compile(r"<!-- hfgen: begin.*?-->.*?<!-- hfgen: end -->", re.DOTALL)
_TEMPLATES = Path(__file__).resolve().parent.parent / "model_cards"
_UNITED = ("tags", "datasets")
_SOURCE = "hfgen"
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def write_card(contents: Contents, to: str, found: dict[str, Any], license: str | None, before: str | None) -> str:
    """The README of a model or a dataset.

    Args:
        contents: What is published.
        to: The repository.
        found: What the clean process found in a model (`first_images`); {} for a dataset.
        license: The user's choice, if any; else what `before` says; else mit, or unknown where the images, or the
            weights, may be other people's.
        before: The README that is there: its text, and the metadata that isn't ours, are kept.

    Raises:
        UserError: the README that is there, or the licence, isn't valid.
    """
    metadata, text = split_card(before or "")
    license = license or metadata.get("license") or _assumed_license(contents, found)
    ours = _model_metadata(contents, to, found) if contents.kind == "model" else _dataset_metadata(contents, to)
    merged = _merge(metadata, {"license": license, **ours})
    section = f"{BEGIN}\n\n{_render(contents, to, found, license).strip()}\n\n{END}"
    if _OURS.search(text):
        text = _OURS.sub(lambda _: section, text, count=1)
    elif "<!-- hfgen: begin" in text or END in text:
        raise UserError("README.md: one mark of hfgen's section is missing; remove the other one too")
    else:
        text = f"{text.strip()}\n\n{section}\n" if text.strip() else f"{section}\n"
    return f"---\n{_dump(merged)}\n---\n\n{text.lstrip()}"


def check_card(text: str, kind: str) -> None:
    """Parse a README as the Hub's own library does.

    Raises:
        UserError: it isn't valid, or lacks what that kind of repository needs.
    """
    from huggingface_hub import DatasetCard, ModelCard, SpaceCard

    cards: dict[str, Any] = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
    split_card(text)
    try:
        data = cards[kind](text).data.to_dict()
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"README.md: its metadata isn't valid ({' '.join(str(error).split())}); fix it") from None
    needed = {"model": ("license", "library_name"), "dataset": ("license",), "space": ("sdk", "title")}[kind]
    missing = next((field for field in needed if not data.get(field)), None)
    if missing is not None:
        raise UserError(f"README.md: its metadata lacks {missing}; write `{missing}: ...` between the lines of ---")
    licenses = data.get("license") or []
    for name in [licenses] if isinstance(licenses, str) else licenses:
        if not _IDENTIFIER.fullmatch(name):
            raise UserError(f"license: {name!r} isn't an identifier; give one like mit, apache-2.0 or cc-by-4.0")
        if name == "other" and not data.get("license_name"):
            raise UserError("license: other needs a license_name in the README's metadata; add one")


def write_results(contents: Contents) -> str | None:
    """`.eval_results/hfgen.yaml` of a record on a Hub dataset, or None: other data has no page that could show it."""
    data = contents.record.get("data", {})
    if contents.kind != "model" or "/" not in data.get("id", ""):
        return None
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=data["id"],
            task_id=name,
            value=estimate["value"],
            dataset_revision=data.get("revision"),
            notes=f"95 % interval [{estimate['low']:.4g}, {estimate['high']:.4g}], {estimate['n']} images, hfgen",
        )
        for name, estimate in sorted(contents.record["metrics"].items())
    ]
    return _dump(eval_result_entries_to_yaml(entries)) + "\n"


# Metadata.


def _assumed_license(contents: Contents, found: dict[str, Any]) -> str:
    begun = contents.run.get("config", {}).get("start_from")
    if contents.kind == "model" and (begun or not _is_ours(contents, found)):
        return "unknown"
    if not contents.is_evaluation:
        return "mit"
    known = BUILT_IN.get(contents.record["data"]["id"])
    return known.license if known is not None else "unknown"


def _is_ours(contents: Contents, found: dict[str, Any]) -> bool:
    """Whether hfgen trained the model: others' pipelines and networks may be anybody's, unless a run says so."""
    return bool(contents.run) or bool(found.get("family") and not found.get("bare"))


def split_card(readme: str) -> tuple[dict[str, Any], str]:
    """The metadata of a README, and its text."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    match = REGEX_YAML_BLOCK.search(readme)
    if match is None:
        return {}, readme
    try:
        metadata = yaml.safe_load(match[2]) or {}
    except yaml.YAMLError as error:
        raise UserError(f"README.md: its metadata isn't YAML ({' '.join(str(error).split())}); fix it") from None
    if not isinstance(metadata, dict):
        raise UserError("README.md: its metadata isn't `name: value` lines; fix it")
    return metadata, readme[match.end() :]


def _merge(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Ours over theirs; lists of names are united, and results that aren't ours are kept."""
    merged = {**theirs, **ours}
    for field in _UNITED:
        old = theirs.get(field) or []
        names = dict.fromkeys([*([old] if isinstance(old, str) else old), *ours.get(field, [])])
        if names:
            merged[field] = list(names)
    index = theirs.get("model-index") or []
    others = [
        {**model, "results": [r for r in model.get("results", []) if (r.get("source") or {}).get("name") != _SOURCE]}
        for model in index
    ]
    kept = [*(model for model in others if model["results"]), *ours.get("model-index", [])]
    if kept:
        merged["model-index"] = kept
    else:
        merged.pop("model-index", None)
    return merged


def _model_metadata(contents: Contents, to: str, found: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import ModelCardData

    config = contents.run.get("config", {})
    family = found.get("family") or found["class"]
    metadata: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": task_of(found),
        "tags": ["hfgen", family],
    }
    if "/" in config.get("data", ""):
        metadata["datasets"] = [config["data"].partition("@")[0]]
    if "/" in config.get("start_from", ""):
        with contextlib.suppress(UserError):  # A folder here, and no repository.
            metadata["base_model"] = parse_address(config["start_from"]).repository
    results = _results(contents.record, task_of(found), to)
    name = to.split("/")[-1]
    index = ModelCardData(model_name=name, eval_results=results).to_dict() if results else {}
    return {**metadata, **({"model-index": index["model-index"]} if index else {})}


def task_of(found: dict[str, Any]) -> str:
    """The Hub's name of what a pipeline does."""
    return "unconditional-image-generation" if found["samples"] else "image-to-image"


def _results(record: dict[str, Any], task: str, to: str) -> list[Any]:
    from huggingface_hub import EvalResult, constants

    if not record:
        return []
    data = record["data"]
    return [
        EvalResult(
            task_type=task,
            dataset_type=data["id"],
            dataset_name=data["id"].split("/")[-1],
            dataset_split=data["split"],
            dataset_revision=data.get("revision"),
            metric_type=name,
            metric_name=name,
            metric_value=estimate["value"],
            metric_args={"low": estimate["low"], "high": estimate["high"], "n": estimate["n"]},
            source_name=_SOURCE,
            source_url=f"{constants.ENDPOINT}/{to}/blob/main/record.json",
        )
        for name, estimate in sorted(record["metrics"].items())
    ]


def _dataset_metadata(contents: Contents, to: str) -> dict[str, Any]:
    record = contents.record
    count = record["data"]["n"] if contents.is_evaluation else sum(record["splits"].values())
    sizes = [("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000)]
    shards = sorted({Path(name).name.rsplit("-", 3)[0] for name in contents.files if name.endswith(".parquet")})
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in shards]
    return {
        "pretty_name": to.split("/")[-1],
        "tags": ["hfgen", "image-generation", *(["evaluation"] if contents.is_evaluation else [])],
        "size_categories": [next((name for name, most in sizes if count < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _dump(value: Any) -> str:
    from huggingface_hub.utils import yaml_dump

    return yaml_dump(value, sort_keys=False).strip()


# Text.


def _render(contents: Contents, to: str, found: dict[str, Any], license: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(estimate=_estimate, percent=_percent)
    record = contents.record
    values = {
        "repo": to,
        "name": to.split("/")[-1],
        "license": license if isinstance(license, str) else ", ".join(license),
        "record": record,
        "diagnosis": contents.diagnosis,
        "study": contents.study,
        "exact": _exact(contents),
        "config": contents.run.get("config", {}),
        "found": found,
        "ours": _is_ours(contents, found),
        "samples": SAMPLES if SAMPLES in contents.files else None,
    }
    if contents.kind == "model":
        return templates.get_template("model.md").render(**values)
    if not contents.is_evaluation:
        return templates.get_template("data.md").render(**values, features=_features(contents))
    models = record.get("models") or {"model": record}
    return templates.get_template("dataset.md").render(**values, models=models, features=_features(contents))


def _exact(contents: Contents) -> dict[str, Any] | None:
    """What the model's latent says, where it was asked."""
    if not contents.posterior:
        return None
    from hfgen.reporting.exact_answers import HOW, ROWS, TITLE, ExactAnswer

    (entry,) = contents.posterior["models"]
    answer, sheet = ExactAnswer.of(contents.posterior, entry), SHEET if SHEET in contents.files else None
    return {"title": TITLE, "answer": answer, "how": HOW, "sheet": sheet, "rows": ROWS}


def _estimate(estimate: dict[str, Any]) -> str:
    """`0.431 [0.412, 0.458]`."""
    return f"{estimate['value']:.3g} [{estimate['low']:.3g}, {estimate['high']:.3g}]"


def _percent(estimate: dict[str, Any]) -> str:
    """`43.1 % [41.2, 45.8]`."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.3g} % [{low:.3g}, {high:.3g}]"


def _features(contents: Contents) -> dict[str, str]:
    """The columns of an evaluation dataset, and what `datasets` makes of them."""
    import json

    import pyarrow.parquet as pq

    path = next(path for name, path in contents.files.items() if name.endswith(".parquet"))
    schema = pq.read_schema(path)
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds = {name: noted.get(name, {}) for name in schema.names}
    return {name: " ".join(filter(None, (kind.get("_type"), kind.get("dtype")))) for name, kind in kinds.items()}
