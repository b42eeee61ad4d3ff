"""`hfgen study`: claims, decided by experiment."""

from __future__ import annotations

import argparse
from typing import Any

from hfgen.cli.options import (
    Verbs,
    add_columns,
    add_compute,
    add_out,
    add_verb,
    columns,
    compute_options,
    refuse_idle,
)
from hfgen.data_options import DEFAULT_DATA
from hfgen.errors import SettingsError
from hfgen.imports import without_collector

_POSTERIOR, _DECODERS = "posterior", "decoders"


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs, "study", run, "put what people say about blur to the test: train small models, decide claim by claim"
    )
    verb.set_defaults(takes="claims")
    help = (
        "names of studies, or STUDY/SENTENCE; an unknown one lists them (all); or, alone, posterior [MODEL ...], "
        "decoders MODEL ..."
    )
    verb.add_argument("claims", metavar="CLAIM", nargs="*", help=help)
    verb.add_argument("--budget", choices=("smoke", "full"), default="full", help="smoke decides nothing (%(default)s)")
    verb.add_argument("--dry_run", action="store_true", help="only say what would be trained, and how long it takes")
    verb.add_argument("--data", default=DEFAULT_DATA, help="what models are trained on, at 16 px (%(default)s)")
    verb.add_argument("--n", type=int, help="of posterior and decoders: held-out glyphs (the budget's)")
    verb.add_argument("--images", type=int, help="of decoders: most images that one sees (the budget's, 1,024,000)")
    verb.add_argument("--widths", type=int, nargs="+", help="of decoders: channels at full size (16 32 64)")
    add_columns(verb)
    add_out(verb, "folder for study.json, report.html, figures/ and cells/", required=True)
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Decide on claims by experiment."""
    for name, answer in ((_POSTERIOR, _posterior), (_DECODERS, _decoders)):
        if name in arguments.claims:
            answer(arguments, _models(arguments, name))
            return
    refuse_idle(arguments, ["n"], "only the studies posterior and decoders take it")
    _refuse_decoders_options(arguments)
    with without_collector(freeze=True):
        from hfgen.studies.run_studies import plan_studies, run_studies

    options = {"data": arguments.data, "columns": columns(arguments), "budget": arguments.budget}
    if arguments.dry_run:
        plan_studies(arguments.claims, arguments.out, **options, **compute_options(arguments))
        return
    document = run_studies(arguments.claims, arguments.out, **options, **compute_options(arguments))
    for row in document["verdicts"]:
        print(f"{row['verdict']:<13} {row['id']}: {row['claim']}\n{'':<13} {row['number']}")
    print(f"open {arguments.out / 'report.html'}")


def _models(arguments: argparse.Namespace, name: str) -> list[str]:
    """What stands behind the name of a study that stands alone."""
    first, *models = arguments.claims
    if first != name:
        raise SettingsError(f"claim: {name} stands alone, with MODELs behind it; leave {first} out")
    if arguments.dry_run:
        raise SettingsError(f"dry_run: {name} has none; leave --dry_run out, or give a small --n")
    refuse_idle(arguments, ("data", *columns(arguments)), "only glyphs have known factors")
    return models


def _refuse_decoders_options(arguments: argparse.Namespace) -> None:
    refuse_idle(arguments, ("images", "widths"), f"only the study {_DECODERS} takes it")


def _posterior(arguments: argparse.Namespace, models: list[str]) -> None:
    """What the latents of models of glyphs say, exactly, and what their decoders draw."""
    with without_collector(freeze=True):
        from hfgen.studies.posterior.study_posterior import study_posterior

    _refuse_decoders_options(arguments)
    options = {"budget": arguments.budget, "n": arguments.n}
    document = study_posterior(models, arguments.out, **options, **compute_options(arguments))
    for model in document["models"]:
        print(f"{model['name']}: {model['converged']} of {model['n']} images converged")
        _print(model["metrics"])
    print(f"open {arguments.out / 'figures'}")


def _decoders(arguments: argparse.Namespace, models: list[str]) -> None:
    """Do L2 decoders on these models' latents reach the conditional mean?"""
    with without_collector(freeze=True):
        from hfgen.studies.posterior.study_decoders import study_decoders

    options = {"budget": arguments.budget, "n": arguments.n, "images": arguments.images, "widths": arguments.widths}
    document = study_decoders(models, arguments.out, **options, **compute_options(arguments))
    for model in document["models"]:
        print(f"{model['name']}: E[x | z], {model['converged']} of {model['n']} images converged")
        _print({name: model["reference"][name] for name in ("psnr_mean", "power_mean")})
        for row in model["decoders"]:
            print(f"width {row['width']}, {row['images_seen']:,} images seen")
            _print(row["metrics"])
    print(f"open {arguments.out / 'figures'}")


def _print(metrics: dict[str, Any]) -> None:
    for name, entry in metrics.items():
        print(f"  {name:<18} {entry['value']:>8.4g}   [{entry['low']:.4g}, {entry['high']:.4g}]")
