"""Models on the same images, or what was measured of them already -> evaluations that can be compared."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hfgen.comparison.names import check_names, distinct_names
from hfgen.comparison.protocol import check_same_images, check_same_protocol, check_same_settings
from hfgen.data import Data, as_data, found_once, split_size
from hfgen.devices import Compute
from hfgen.errors import SettingsError
from hfgen.evaluation.evaluate import Evaluation, evaluate
from hfgen.evaluation.finished import is_finished, read_evaluation, read_record
from hfgen.evaluation.held_out import EMBEDDED, choose_n
from hfgen.evaluation.timing import measure_costs
from hfgen.pipelines.given import compute_for, given_name, is_given, opened, settle
from hfgen.setting_bounds import whole_number

_OWN = ("model", "data", "out", "device", "channels", "crop", "shared")
"""Parameters of `evaluate` that a comparison sets itself."""

_DEFAULTS = {name: one.default for name, one in inspect.signature(evaluate).parameters.items() if name not in _OWN}
"""Of the others, which are settings of a comparison."""


@found_once()
def measure_models(
    models: Sequence[Any] | Mapping[str, Any],
    data: Any | None,
    out: Path,
    *,
    split: str = "test",
    n: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> tuple[dict[str, Evaluation], dict[str, dict[str, Any]]]:
    """Evaluations by short name, and what an image of the models that were measured now costs.

    What can't be compared is refused before anything is measured, and other images than a finished evaluation's, though
    of as many and of one size, with the first model.

    Args:
        models: MODELs, folders that `hfgen evaluate` wrote, or what is loaded, as `evaluate` takes it; the names to
            show are the keys, or what tells addresses apart, and the classes of what is loaded.
        data: DATA, or images, as `evaluate` takes them; None where all are such folders.
        out: Folder for each measured model's own record and dataset.
        split: Of DATA.
        n: Held-out images; by default as many as in the folders that are read, or as there are, up to 2000.
        device: Where models run; see `hfgen.devices.choose`.
        dtype: In which numbers; see there.
        settings: What else `hfgen.evaluation.evaluate.evaluate` takes.

    Raises:
        UserError: a model given twice, models of different sizes or channels, settings that would do nothing,
            or what `evaluate` refuses.
    """
    given = {"split": split, "n": n, "dtype": dtype, **settings}
    check_settings(given)
    changed = [name for name, value in given.items() if value != _DEFAULTS[name]]
    n = None if n is None else whole_number("n", n)
    places, data = named_models(models), None if data is None else as_data(data)
    first = next((place for place in places.values() if is_given(place)), next(iter(places.values()), ""))
    compute = compute_for(first, device, dtype)
    for place in places.values():
        compute_for(place, compute.device, compute.dtype)
    finished = {name: _is_finished(place, data) for name, place in places.items()}
    records = {name: read_record(Path(place)) for name, place in places.items() if finished[name]}
    if data is None and changed:
        why = "without data nothing is measured, the records are compared as they are"
        raise SettingsError(f"{changed[0]}: {why}; leave {changed[0]} out")
    if data is not None and places and all(finished.values()):
        raise SettingsError("data: all of these are finished evaluations, with their images; leave --data out")
    if data is not None:
        n = _checked_n(records, data, split, n, compute, settings)
    chosen = {name: settings.get(name) for name in ("variant", "resolution", "tile")}
    images = {name: _images_of(place, records.get(name), chosen, compute) for name, place in places.items()}
    check_same_images(images)
    # Functions take the images that the others do.
    settings["channels"] = next((one["channels"] for one in images.values() if one["channels"]), "auto")
    evaluations: dict[str, Evaluation] = {}
    costs: dict[str, dict[str, Any]] = {}
    where: dict[str, Any] = {"device": compute.device, "dtype": compute.dtype}
    for name, place in places.items():
        if finished[name]:
            evaluations[name] = _sharing(read_evaluation(Path(place)), evaluations)
            continue
        assert data is not None, "_is_finished refuses a model without data"
        found = evaluate(place, data, split=split, n=n, out=out / name, **settings, **where)
        evaluations[name] = _sharing(found, evaluations)
        check_same_protocol({**records, name: found.record})
        with opened(place, compute, **chosen) as (pipeline, _):
            settle(pipeline, evaluations[name].originals.shape[1])
            costs[name] = measure_costs(pipeline)
    return evaluations, costs


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what `evaluate` doesn't take, or a comparison sets itself.

    Raises:
        SettingsError: there is such a setting.
    """
    for name in settings:
        if name not in _DEFAULTS:
            raise SettingsError(f"{name}: no setting of a comparison; give some of {', '.join(_DEFAULTS)}")


def _checked_n(
    records: dict[str, dict[str, Any]],
    data: Data,
    split: str,
    n: int | None,
    compute: Compute,
    settings: dict[str, Any],
) -> int | None:
    """`n`, or that of the finished evaluations, which have the other settings, too.

    Raises:
        UserError: they haven't, or the split hasn't so many images.
    """
    if records and n is None:
        n = next(iter(records.values()))["data"]["n"]
    extractor, config_name = settings.get("extractor", EMBEDDED), settings.get("config_name")
    used, _ = split_size(data, split, config_name=config_name)
    asked = {"data.n": n, "data.split": used, "protocol.seed": settings.get("seed", 0)}
    check_same_settings(records, {**asked, "protocol.dtype": compute.dtype_name}, extractor)
    choose_n(data, split, n, extractor=extractor, config_name=config_name)
    return n


def _sharing(found: Evaluation, others: Mapping[str, Evaluation]) -> Evaluation:
    """With the held-out images of another where they are the same: once in memory, not once a model."""
    same = (one.originals for one in others.values() if torch.equal(one.originals, found.originals))
    return dataclasses.replace(found, originals=next(same, found.originals))


def named_models(models: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """MODELs, or what is loaded, by the names to show.

    Raises:
        SettingsError: one is given twice, what is given are no models, or a name can't be one here.
    """
    if isinstance(models, Mapping):
        check_names(models)
        return dict(models)
    if isinstance(models, str) or not isinstance(models, Sequence):
        raise SettingsError(f"models: {type(models).__name__} isn't several models; give [A, B] or {{name: A, ...}}")
    seen: dict[int, str] = {}
    for model in filter(is_given, models):
        name = given_name(model)
        alike = sum(other.partition("-")[0] == name for other in seen.values())
        seen.setdefault(id(model), f"{name}-{alike + 1}" if alike else name)
    names = distinct_names([seen[id(model)] if is_given(model) else str(model) for model in models])
    check_names(names)
    return dict(zip(names, models, strict=True))


def _is_finished(place: Any, data: Data | None) -> bool:
    """See `is_finished`; what is loaded isn't."""
    if not is_given(place):
        return is_finished(Path(place), given_data=data is not None)
    if data is None:
        raise SettingsError(f"data: none given, and a {type(place).__name__} has to be measured; give data")
    return False


def _images_of(
    place: Any, record: dict[str, Any] | None, chosen: dict[str, Any], compute: Compute
) -> dict[str, int | None]:
    """Size and channels of its images; no channels where an old record has none, and functions take any."""
    if record is not None:
        return {"resolution": record["data"]["resolution"], "channels": record["data"].get("channels")}
    with opened(place, compute, **chosen) as (pipeline, _):
        channels = None if pipeline.channels == "auto" else pipeline.channels
        return {"resolution": pipeline.sample_size, "channels": channels}
