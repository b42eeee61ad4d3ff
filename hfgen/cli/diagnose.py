"""`hfgen diagnose`: what is wrong with one model, and what to change."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hfgen.cli.options import Verbs, add_measurement, add_model, add_out, add_tile, add_verb, measurement
from hfgen.imports import without_collector


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "diagnose", run, "find out what is wrong with a model, and what to change")
    add_model(verb)
    add_tile(verb)
    add_out(verb, "folder for report.html, diagnosis.json and waterfall.png", required=True)
    verb.add_argument("--against", metavar="MODEL", help="another checkpoint: say why they differ")
    verb.add_argument("--budget", choices=("small", "full"), default="small", help="of the interventions (%(default)s)")
    help = (
        "folder of the posterior.json that `hfgen study posterior MODEL` wrote: what the latents of glyphs say exactly"
    )
    verb.add_argument("--posterior", metavar="DIR", type=Path, help=help)
    help = "train copies and optimise latents (unless the model has 20 million parameters or 256 pixels)"
    verb.add_argument("--refits", action=argparse.BooleanOptionalAction, default=None, help=help)
    verb.add_argument("--json", action="store_true", help="print diagnosis.json instead of the advice")
    add_measurement(verb, most="the budget's; 32 of a large model")


def run(arguments: argparse.Namespace) -> None:
    """Look at one model, intervene on it, and say what is wrong."""
    with without_collector(freeze=True):
        import hfgen.diagnosis.diagnose  # noqa: F401, what `diagnose` begins with
        from hfgen.library import diagnose

    names = ("resolution", "variant", "tile", "budget", "refits", "against", "posterior")
    options = {**measurement(arguments), **{name: getattr(arguments, name) for name in names}}
    found = diagnose(arguments.model, arguments.data, arguments.out, **options)
    if arguments.json:
        print(json.dumps(found.record, indent=2))
        return
    print(found)
    print(arguments.out / "report.html")
