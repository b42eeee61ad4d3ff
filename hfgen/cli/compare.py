"""`hfgen compare`: several models on the same images."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfgen.cli.options import Verbs, add_measurement, add_verb, measurement
from hfgen.errors import SettingsError


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "compare", run, "measure models on the same images and report the differences")
    verb.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="runs' folders, checkpoints' or org/name[@revision]; without --data, folders that `hfgen evaluate` wrote",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for comparison.json, report.html, dataset/")
    add_measurement(verb, data_required=False)


def run(arguments: argparse.Namespace) -> None:
    """Measure several models on the same images, or read what was measured of them."""
    import hfgen
    from hfgen.comparison.run import compare
    from hfgen.evaluation.finished import is_finished, read_evaluation
    from hfgen.evaluation.run import evaluate
    from hfgen.evaluation.timing import measure_costs

    names = [Path(model.removesuffix("/").removesuffix("/pretrained")).name for model in arguments.models]
    if len(set(names)) < len(names):
        raise SettingsError(f"models: two are called {max(names, key=names.count)}; rename a folder to tell them apart")
    evaluations, costs = {}, {}
    for name, model in zip(names, arguments.models, strict=True):
        if is_finished(Path(model), given_data=arguments.data is not None):
            evaluations[name] = read_evaluation(Path(model))
        else:
            evaluations[name] = evaluate(model, arguments.data, out=arguments.out / name, **measurement(arguments))
            costs[name] = measure_costs(hfgen.load(model))
    for sentence in compare(evaluations, arguments.out, costs=costs)["reading"]:
        print(f"- {sentence}")
    print(f"open {arguments.out / 'report.html'}")
