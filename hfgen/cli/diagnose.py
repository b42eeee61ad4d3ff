"""`hfgen diagnose`: why one model's images are blurred."""

from __future__ import annotations

import argparse

from hfgen.cli.options import Verbs, add_measurement, add_model, add_out, add_verb, measurement, print_notes


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "diagnose", run, "find out why a model's images are blurred, or that they aren't")
    add_model(verb)
    add_out(verb, "folder for diagnosis.json and waterfall.png", required=True)
    verb.add_argument("--budget", choices=("small", "full"), default="small", help="of the interventions (%(default)s)")
    add_measurement(verb, most="the budget's")


def run(arguments: argparse.Namespace) -> None:
    """Intervene on one model and say what blurs it."""
    from hfgen.diagnosis.diagnose import diagnose

    chosen = {name: getattr(arguments, name) for name in ("resolution", "variant", "budget")}
    options = {**measurement(arguments), **chosen}
    document = diagnose(arguments.model, arguments.data, out=arguments.out, **options)
    for entry in document["ranking"]:
        print(f"{entry['cause']:<24} {entry['score']:.2f} of {entry['of']}")
    for sentence in document["advice"]:
        print(f"- {sentence}")
    print_notes(document["notes"])
    print(arguments.out / ("waterfall.png" if document["causes"] else "diagnosis.json"))
