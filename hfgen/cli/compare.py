"""`hfgen compare`: several models on the same images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hfgen.cli.options import Verbs, add_measurement, add_out, add_verb, add_weights, measurement
from hfgen.errors import SettingsError


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "compare", run, "measure models on the same images and report the differences")
    verb.set_defaults(takes="models")
    verb.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="runs' folders, checkpoints' or org/name[@revision]; without --data, folders that `hfgen evaluate` wrote",
    )
    add_out(verb, "folder for comparison.json, report.html, dataset/", required=True)
    add_weights(verb)
    add_measurement(verb, data_required=False)


def run(arguments: argparse.Namespace) -> None:
    """Measure several models on the same images, or read what was measured of them."""
    import hfgen
    from hfgen.comparison.run import compare
    from hfgen.evaluation.finished import is_finished, read_evaluation
    from hfgen.evaluation.run import evaluate
    from hfgen.evaluation.timing import measure_costs

    names = distinct_names(arguments.models)
    evaluations, costs = {}, {}
    for name, model in zip(names, arguments.models, strict=True):
        if is_finished(Path(model), given_data=arguments.data is not None):
            evaluations[name] = read_evaluation(Path(model))
        else:
            chosen = {"variant": arguments.variant, "resolution": arguments.resolution}
            options = {**measurement(arguments), **chosen}
            evaluations[name] = evaluate(model, arguments.data, out=arguments.out / name, **options)
            costs[name] = measure_costs(hfgen.load(model, **chosen))
    for sentence in compare(evaluations, arguments.out, costs=costs)["reading"]:
        print(f"- {sentence}")
    print(f"open {arguments.out / 'report.html'}")


def distinct_names(models: Sequence[str]) -> list[str]:
    """What each model is called: its last part, and as many before it as tell it apart, such as `a-vae` and `b-vae`.

    Raises:
        SettingsError: one is given twice.
    """
    from hfgen.comparison.run import RESERVED

    parts = [_parts(model) for model in models]
    twice = next((model for index, model in enumerate(models) if parts[index] in parts[:index]), None)
    if twice is not None:
        raise SettingsError(f"models: {twice} is given twice; give each once")
    shown = [1] * len(models)
    while True:
        names = ["-".join(part[-count:]) for part, count in zip(parts, shown, strict=True)]
        alike = [index for index, name in enumerate(names) if names.count(name) > 1 or name in RESERVED]
        longer = [index for index in alike if shown[index] < len(parts[index])]
        if not longer:
            return names
        for index in longer:
            shown[index] += 1


def _parts(model: str) -> tuple[str, ...]:
    """A folder's path, or a Hub id, in parts; of a run's folder and its `pretrained/` the same."""
    if Path(model).exists():
        path = Path(model).absolute()
        path = path.resolve() if ".." in path.parts else path
        return (path.parent if path.name == "pretrained" else path).parts[1:]
    name, _, revision = model.partition("@")
    *parents, last = name.strip("/").split("/")
    return (*parents, f"{last}@{revision.replace('/', '-')}" if revision else last)
