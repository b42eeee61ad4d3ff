"""`hfgen compare`: several models on the same images."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfgen.cli.options import (
    Verbs,
    add_measurement,
    add_out,
    add_tile,
    add_verb,
    add_weights,
    all_but,
    by_name,
    measurement,
    refuse_idle,
)
from hfgen.imports import without_collector


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "compare", run, "measure models on the same images and report the differences")
    verb.set_defaults(takes="models")
    verb.add_argument(
        "models",
        metavar="[NAME=]MODEL",
        nargs="+",
        help="runs' folders, checkpoints' or org/name[@revision], and what to call them; without --data, folders that "
        "`hfgen evaluate` wrote",
    )
    add_out(verb, "folder for comparison.json, report.html, dataset/", required=True)
    help = "folder of `hfgen study posterior`, whose answers the report shows (one beside the models, if there is one)"
    verb.add_argument("--posterior", type=Path, metavar="DIR", help=help)
    add_weights(verb)
    add_tile(verb)
    add_measurement(verb, data_required=False)


def run(arguments: argparse.Namespace) -> None:
    """Measure several models on the same images, or read what was measured of them."""
    from hfgen.outputs import check_no_evaluation

    # Again in `compare`, after seconds of imports.
    check_no_evaluation(arguments.out)
    with without_collector(freeze=True):
        import hfgen.comparison.measuring  # noqa: F401, what `compare` begins with
        from hfgen.library import compare

    if arguments.data is None:
        idle = all_but(arguments, "out", "posterior", "variant", "resolution", "device")
        refuse_idle(arguments, idle, "without --data nothing is measured, the records are compared as they are")
    chosen = {"variant": arguments.variant, "resolution": arguments.resolution, "tile": arguments.tile}
    chosen["posterior"] = arguments.posterior
    print(compare(by_name(arguments.models), arguments.data, arguments.out, **measurement(arguments), **chosen))
    print(f"open {arguments.out / 'report.html'}")
