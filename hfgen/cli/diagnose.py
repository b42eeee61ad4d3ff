"""`hfgen diagnose`: what is wrong with one model, and what to change."""

from __future__ import annotations

import argparse
import json

from hfgen.cli.options import Verbs, add_measurement, add_model, add_out, add_verb, measurement, print_notes


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "diagnose", run, "find out what is wrong with a model, and what to change")
    add_model(verb)
    add_out(verb, "folder for report.html, diagnosis.json and waterfall.png", required=True)
    verb.add_argument("--against", metavar="MODEL", help="another checkpoint: say why they differ")
    verb.add_argument("--budget", choices=("small", "full"), default="small", help="of the interventions (%(default)s)")
    help = "train copies and optimise latents (unless the model has 20 million parameters or 256 pixels)"
    verb.add_argument("--refits", action=argparse.BooleanOptionalAction, default=None, help=help)
    verb.add_argument("--json", action="store_true", help="print diagnosis.json instead of the advice")
    add_measurement(verb, most="the budget's; 32 of a large model")


def run(arguments: argparse.Namespace) -> None:
    """Look at one model, intervene on it, and say what is wrong."""
    from hfgen.diagnosis.diagnose import diagnose

    chosen = {name: getattr(arguments, name) for name in ("resolution", "variant", "budget", "refits", "against")}
    options = {**measurement(arguments), **chosen}
    document = diagnose(arguments.model, arguments.data, out=arguments.out, **options)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    verdict = document["verdict"]
    print(f"{verdict['sentence']} (confidence {verdict['confidence']:.0%})")
    for entry in document["ranking"]:
        print(f"{entry['cause']:<24} {entry['score']:.2f} of {entry['of']}")
    for sentence in [*document["advice"], *document.get("against", {}).get("sentences", [])]:
        print(f"- {sentence}")
    if verdict["remedy"]:
        print(f"to change: {verdict['remedy']}")
    print_notes(document["notes"])
    print(arguments.out / "report.html")
