"""Models on the same images, or what was measured of them already -> evaluations that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hfgen.comparison.compare import check_names
from hfgen.comparison.names import distinct_names
from hfgen.comparison.protocol import check_same_images, check_same_settings
from hfgen.data import split_size
from hfgen.devices import choose
from hfgen.documents import RECORD
from hfgen.evaluation.evaluate import Evaluation, evaluate
from hfgen.evaluation.finished import is_finished, read_evaluation
from hfgen.evaluation.held_out import EMBEDDED, choose_n
from hfgen.evaluation.timing import measure_costs
from hfgen.pipelines import ImagePipeline, load


def measure_models(
    models: Sequence[str],
    data: str | None,
    out: Path,
    *,
    split: str = "test",
    n: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> tuple[dict[str, Evaluation], dict[str, dict[str, Any]]]:
    """Evaluations by short name, and what an image of the models that were measured now costs.

    What can't be compared is refused before anything is measured.

    Args:
        models: MODELs, or folders that `hfgen evaluate` wrote.
        data: DATA; None where all are such folders.
        out: Folder for each measured model's own record and dataset.
        split: Of DATA.
        n: Held-out images; by default as many as in the folders that are read, or as there are, up to 2000.
        device: Where models run; see `hfgen.devices.choose`.
        dtype: In which numbers; see there.
        settings: What else `hfgen.evaluation.evaluate.evaluate` takes.

    Raises:
        UserError: a model given twice, models of different sizes or channels, or what `evaluate` refuses.
    """
    compute = choose(device, dtype)
    names = distinct_names(models)
    check_names(names)
    places = dict(zip(names, models, strict=True))
    finished = {name: is_finished(Path(place), given_data=data is not None) for name, place in places.items()}
    records = {name: RECORD.read(Path(place) / "record.json") for name, place in places.items() if finished[name]}
    if data is not None and not all(finished.values()):
        if records and n is None:
            n = next(iter(records.values()))["data"]["n"]
        used, _ = split_size(data, split, config_name=settings.get("config_name"))
        check_same_settings(records, {"n": n, "split": used}, settings.get("seed", 0))
        chosen: dict[str, Any] = {
            "extractor": settings.get("extractor", EMBEDDED),
            "config_name": settings.get("config_name"),
        }
        choose_n(data, split, n, **chosen)
    opened = partial(load, variant=settings.get("variant"), resolution=settings.get("resolution"))
    check_same_images({name: _images_of(place, records.get(name), opened) for name, place in places.items()})
    evaluations, costs = {}, {}
    where: dict[str, Any] = {"device": compute.device, "dtype": compute.dtype}
    for name, place in places.items():
        if finished[name]:
            evaluations[name] = read_evaluation(Path(place))
            continue
        assert data is not None, "is_finished refuses a model without data"
        evaluations[name] = evaluate(place, data, split=split, n=n, out=out / name, **settings, **where)
        costs[name] = measure_costs(compute.place(opened(place)))
    return evaluations, costs


def _images_of(
    place: str, record: dict[str, Any] | None, opened: Callable[[str], ImagePipeline]
) -> dict[str, int | None]:
    """Size and channels of its images; no channels where an old record has none."""
    if record is not None:
        return {"resolution": record["data"]["resolution"], "channels": record["data"].get("channels")}
    pipeline = opened(place)
    return {"resolution": pipeline.sample_size, "channels": pipeline.channels}
