"""posterior.json of `hfgen study posterior` -> what it says of the models that are compared, and its pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hfgen.documents import POSTERIOR
from hfgen.errors import ModelError, SettingsError, UserError
from hfgen.evaluation.exact_posterior import FILE, entry_of, file_at, read_entry
from hfgen.folders import home_of
from hfgen.pipelines.given import compute_for, is_given, opened
from hfgen.pipelines.loading import open_model
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.reporting.exact_answers import sheet_of_entry, slug

logger = logging.getLogger("hfgen")


class ExactPosteriors(NamedTuple):
    """What is shown of a posterior.json.

    Attributes:
        found: As comparison.json keeps it: budget, seed, versions, and `models`, by name, without single images.
        sheets: The picture of each, as PNG, where there is one.
        notes: Which models have no answer, or no picture, and which answers aren't shown.
    """

    found: dict[str, Any]
    sheets: dict[str, bytes]
    notes: list[str]


class _Known(NamedTuple):
    """What an answer is of: the hash of a model's weights, and the side of its images."""

    weights: str
    resolution: int


def exact_posteriors(
    places: Mapping[str, Any], posterior: Path | None, *, variant: str | None = None, resolution: int | None = None
) -> ExactPosteriors | None:
    """The answers of models, known by their weights; None where there are none.

    Args:
        places: MODELs, or what is loaded, by the names to show.
        posterior: A posterior.json, or its folder; None: one that lies beside the models, if any of them is in it.
        variant: Of the weights; see `hfgen.load`.
        resolution: See there.

    Raises:
        UserError: `posterior` is none, answers none of the models, or has one's name and other weights.
    """
    for path in [posterior] if posterior is not None else _beside(places):
        path = file_at(path)
        try:
            document = POSTERIOR.read(path)
            known = {name: _known(place, variant, resolution) for name, place in places.items()}
            entries = _entries(path, document, known, {name: _called(name, place) for name, place in places.items()})
        except UserError as error:
            if posterior is not None:
                raise
            logger.warning("%s; it isn't shown", error)
            continue
        return _shown(path, document, entries, list(places))
    return None


def _beside(places: Mapping[str, Any]) -> list[Path]:
    """The folders with a posterior.json that models on this machine lie in."""
    homes = [home_of(Path(place)).parent for place in places.values() if not is_given(place) and Path(place).exists()]
    return [home for home in dict.fromkeys(homes) if (home / FILE).is_file()]


def _called(name: str, place: Any) -> str:
    """By the user: not by the part of a run's folder that is looked at."""
    if is_given(place):
        return name
    return str(home_of(Path(place))) if Path(place).exists() else str(place)


def _known(place: Any, variant: str | None, resolution: int | None) -> _Known | None:
    """None of what has no weights here, such as an evaluation's folder."""
    if is_given(place):
        with opened(place, compute_for(place), resolution=resolution) as (pipeline, origin):
            return _Known(origin.facts().get("weights", ""), pipeline.sample_size)
    try:
        pipeline, folder = open_model(place, variant=variant, resolution=resolution)
    except ModelError:
        # Evaluating refuses what has to be there.
        return None
    return _Known(digest_of_folder(folder, variant), pipeline.sample_size)


def _entries(
    path: Path, document: dict[str, Any], known: Mapping[str, _Known | None], called: Mapping[str, str]
) -> dict[str, Any]:
    """By name.

    Raises:
        UserError: there are none, or one has a model's name and isn't of it.
    """
    found = {name: entry for name, of in known.items() if of is not None and (entry := entry_of(document, *of))}
    alike = {slug(entry["name"]) for entry in document["models"]}
    for name, of in known.items():
        is_alike = not alike.isdisjoint({slug(name), slug(called[name])})
        if name in found or (found and not is_alike):
            continue
        if of is not None:
            read_entry(path, *of, called[name])
        elif is_alike:
            raise SettingsError(
                f"posterior: {called[name]} holds no weights that could be those of {path}; compare the model's folder"
            )
    if not found:
        raise SettingsError(f"posterior: {path} is of none of {', '.join(known)}; give the folders of its models")
    return found


def _shown(path: Path, document: dict[str, Any], entries: dict[str, Any], names: list[str]) -> ExactPosteriors:
    facts = {name: document[name] for name in ("budget", "seed", "versions")}
    models = {name: {key: fact for key, fact in one.items() if key != "images"} for name, one in entries.items()}
    sheets = {name: sheet_of_entry(path.parent, one) for name, one in entries.items()}
    left = [name for name in names if name not in entries]
    # Not as they were typed, which may be paths of this machine.
    others = [slug(one["name"]) for one in document["models"] if one not in entries.values()]
    notes = [f"posterior: without an answer of {', '.join(left)}"] if left else []
    notes += [f"posterior: answers of {', '.join(others)}, which aren't compared, are left out"] if others else []
    bare = [name for name, sheet in sheets.items() if sheet is None]
    notes += [f"posterior: without a picture of {', '.join(bare)}; study posterior again draws it"] if bare else []
    pictures = {name: sheet.read_bytes() for name, sheet in sheets.items() if sheet is not None}
    return ExactPosteriors({**facts, "models": models}, pictures, notes)
