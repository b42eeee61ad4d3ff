"""`hfgen evaluate`: measure a model, or images that anything made."""

from __future__ import annotations

import argparse
import logging

from hfgen.cli.options import (
    Verbs,
    add_crop,
    add_measurement,
    add_model,
    add_out,
    add_steps,
    add_tile,
    add_verb,
    all_but,
    measurement,
    print_notes,
    refuse_idle,
)
from hfgen.errors import SettingsError
from hfgen.imports import without_collector
from hfgen.launch import process_index, refuse_launcher


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs,
        "evaluate",
        run,
        "measure a model, or images that anything made, on held-out images",
        usage="hfgen evaluate MODEL|--samples DATA --data DATA --out DIR [...]\n"
        "       hfgen evaluate --verify DIR|ORG/NAME",
    )
    verb.set_defaults(shares_work=True)
    add_model(verb, nargs="?")
    add_tile(verb)
    verb.add_argument("--samples", metavar="DATA", help="generated images instead of a model: a folder or a Hub id")
    verb.add_argument("--samples_split", default="all", help="split of the samples (%(default)s)")
    help = "measure an evaluation dataset again and compare: what evaluate wrote, or a published org/name[@revision]"
    verb.add_argument("--verify", metavar="DIR", help=help)
    add_out(verb, "folder for record.json and dataset/")
    add_steps(verb)
    add_crop(verb)
    add_measurement(verb, data_required=False)


def run(arguments: argparse.Namespace) -> None:
    """Measure one model or other tools' images, or verify an evaluation."""
    given = [name for name in ("model", "samples", "verify") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise SettingsError("model: give MODEL, --samples DATA or --verify DIR, only one of them")
    if given != ["model"]:
        refuse_launcher(f"`hfgen evaluate --{given[0]}`")
    if arguments.verify is not None:
        refuse_idle(arguments, all_but(arguments, "verify", "device"), "--verify measures as the record says")
        with without_collector(freeze=True):
            from hfgen.evaluation.verification import verify

        print(
            f"{arguments.verify}: {verify(arguments.verify, device=arguments.device)} numbers are the same, bit for bit"
        )
        return
    for name in ("data", "out"):
        if getattr(arguments, name) is None:
            raise SettingsError(f"{name}: evaluate needs --{name}; see `hfgen evaluate --help`")
    options = {**measurement(arguments), "resolution": arguments.resolution, "out": arguments.out}
    if arguments.samples is not None:
        with without_collector(freeze=True):
            from hfgen.evaluation.samples import evaluate_samples

        idle = ("dtype", "variant", "tile", "steps", "crop")
        refuse_idle(arguments, idle, "no model runs, the samples are made")
        del options["dtype"]
        options["samples_split"] = arguments.samples_split
        found = evaluate_samples(arguments.samples, arguments.data, **options)
    else:
        with without_collector(freeze=True):
            from hfgen.evaluation.evaluate import evaluate

        refuse_idle(arguments, ["samples_split"], "it goes with --samples, and a model draws its own")
        made = {name: getattr(arguments, name) for name in ("variant", "tile", "steps", "crop")}
        if process_index() > 0:
            # Process 0 says it.
            logging.getLogger("hfgen").setLevel(logging.ERROR)
        found = evaluate(arguments.model, arguments.data, **made, **options, shared=True)
        if process_index() > 0:
            return
    from hfgen.metrics import JudgePower

    print(found.estimates.lines())
    if "judge_power" in found.record:
        print(f"judge: {JudgePower(**found.record['judge_power'])}")
    print_notes(found.record["notes"])
    print(arguments.out / ("record.json" if arguments.crop == "center" else "whole.json"))
