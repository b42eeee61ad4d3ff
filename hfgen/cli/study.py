"""`hfgen study`: claims, decided by experiment."""

from __future__ import annotations

import argparse

from hfgen.cli.options import Verbs, add_columns, add_compute, add_out, add_verb, columns, compute_options
from hfgen.data_options import DEFAULT_DATA


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs, "study", run, "put what people say about blur to the test: train small models, decide claim by claim"
    )
    verb.set_defaults(takes="claims")
    verb.add_argument("claims", metavar="CLAIM", nargs="*", help="names of studies; an unknown one lists them (all)")
    verb.add_argument("--budget", choices=("smoke", "full"), default="full", help="smoke decides nothing (%(default)s)")
    verb.add_argument("--data", default=DEFAULT_DATA, help="what models are trained on, at 16 px (%(default)s)")
    add_columns(verb)
    add_out(verb, "folder for study.json, report.html, figures/ and cells/", required=True)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Decide on claims by experiment."""
    from hfgen.studies.run_studies import run_studies

    options = {"data": arguments.data, "columns": columns(arguments), "budget": arguments.budget}
    document = run_studies(arguments.claims, arguments.out, **options, **compute_options(arguments))
    for row in document["verdicts"]:
        print(f"{row['verdict']:<13} {row['study']}: {row['claim']}\n{'':<13} {row['number']}")
    print(f"open {arguments.out / 'report.html'}")
