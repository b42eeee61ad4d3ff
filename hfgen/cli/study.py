"""`hfgen study`: claims, decided by experiment."""

from __future__ import annotations

import argparse

from hfgen.cli.options import Verbs, add_columns, add_compute, add_out, add_verb, columns, compute_options
from hfgen.data_options import DEFAULT_DATA
from hfgen.errors import SettingsError

_POSTERIOR = "posterior"


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs, "study", run, "put what people say about blur to the test: train small models, decide claim by claim"
    )
    verb.set_defaults(takes="claims")
    help = "names of studies; an unknown one lists them (all); or posterior [MODEL ...], which stands alone"
    verb.add_argument("claims", metavar="CLAIM", nargs="*", help=help)
    verb.add_argument("--budget", choices=("smoke", "full"), default="full", help="smoke decides nothing (%(default)s)")
    verb.add_argument("--data", default=DEFAULT_DATA, help="what models are trained on, at 16 px (%(default)s)")
    verb.add_argument("--n", type=int, help="of posterior: held-out glyphs (the budget's)")
    add_columns(verb)
    add_out(verb, "folder for study.json, report.html, figures/ and cells/", required=True)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Decide on claims by experiment."""
    if _POSTERIOR in arguments.claims:
        _posterior(arguments)
        return
    if arguments.n is not None:
        raise SettingsError("n: only the study posterior takes it; leave --n out")
    from hfgen.studies.run_studies import run_studies

    options = {"data": arguments.data, "columns": columns(arguments), "budget": arguments.budget}
    document = run_studies(arguments.claims, arguments.out, **options, **compute_options(arguments))
    for row in document["verdicts"]:
        print(f"{row['verdict']:<13} {row['study']}: {row['claim']}\n{'':<13} {row['number']}")
    print(f"open {arguments.out / 'report.html'}")


def _posterior(arguments: argparse.Namespace) -> None:
    """What the latents of models of glyphs say, exactly, and what their decoders draw."""
    from hfgen.studies.posterior.study_posterior import study_posterior

    first, *models = arguments.claims
    if first != _POSTERIOR:
        raise SettingsError(f"claim: {_POSTERIOR} stands alone, with MODELs behind it; leave {first} out")
    if arguments.data != DEFAULT_DATA or any(columns(arguments).values()):
        raise SettingsError("data: only glyphs have known factors; leave --data and the columns out")
    options = {"budget": arguments.budget, "n": arguments.n}
    document = study_posterior(models, arguments.out, **options, **compute_options(arguments))
    for model in document["models"]:
        print(f"{model['name']}: {model['converged']} of {model['n']} images converged")
        for name, entry in model["metrics"].items():
            print(f"  {name:<18} {entry['value']:>8.4g}   [{entry['low']:.4g}, {entry['high']:.4g}]")
    print(f"open {arguments.out / 'figures'}")
