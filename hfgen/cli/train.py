"""`hfgen train`: one recipe, here or on the Hub's hardware."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfgen.cli.options import Verbs, add_out, add_verb, print_findings, refuse_idle
from hfgen.errors import SettingsError
from hfgen.imports import without_collector
from hfgen.recipes import recipe_names, recipe_summary

if TYPE_CHECKING:
    from hfgen.publishing.push import CheckpointPush


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs,
        "train",
        run,
        "train a recipe; any of its settings can be overridden",
        add_help=False,
        usage="hfgen train RECIPE|--config FILE [--out DIR] [--resume auto|never] [--SETTING VALUE ...]",
        epilog="RECIPE is one of these; with --help after it, all its settings are listed:\n"
        + "\n".join(f"  {name:<20} {recipe_summary(name)}" for name in recipe_names()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(takes="settings", shares_work=True)
    verb.add_argument("--config", type=Path, help="a YAML file like the recipes, instead of a name")
    add_out(verb, "the run's folder (runs/RECIPE)")
    verb.add_argument("--resume", choices=("auto", "never"), default="auto", help="auto continues the run in --out")
    help = "auto (what Accelerate chooses: a GPU, if any), cpu, cuda, cuda:N or mps; numbers: see --precision"
    verb.add_argument("--device", default="auto", help=help)
    verb.add_argument("--dry_run", action="store_true", help="print networks, phases and settings, and train nothing")
    verb.add_argument("--push_to_hub", action="store_true", help="publish the finished run to --hub_model_id")
    verb.add_argument("--hub_model_id", metavar="ORG/NAME", help="the repository; it is made if it isn't there")
    verb.add_argument("--push_every", type=int, default=0, help="images between checkpoints for its branch `training`")
    verb.add_argument("--private", action="store_true", help="make that repository private")
    verb.add_argument("--job", metavar="FLAVOR", help="train on the Hub's hardware (`hf jobs hardware`), not here")
    verb.add_argument("--job_timeout", default="6h", help="longest time that the job may take (%(default)s)")
    verb.add_argument("-h", "--help", action="store_true", help="show this, or a recipe's settings")


def run(arguments: argparse.Namespace) -> int:
    """Train a recipe, or list its settings."""
    if arguments.help and not arguments.settings and arguments.config is None:
        arguments.parser.print_help()
        return 0
    with without_collector(freeze=True):
        from hfgen.configs import describe_config, load_config, refuse_unknown, split_words

    recipes, settings = split_words(arguments.settings)
    if arguments.help and not recipes and arguments.config is None:
        arguments.parser.print_help()
        return 0
    if len(recipes) + (arguments.config is not None) != 1:
        refuse_unknown(settings)
        given = f", not {', '.join(recipes)}" if recipes else ""
        raise SettingsError(
            f"recipe: give a recipe's name or --config FILE, one of them{given}; `hfgen train --help` lists recipes"
        )
    recipe = arguments.config or recipes[0]
    if arguments.help:
        print(describe_config(recipe))
        return 0
    config = load_config(recipe, settings)
    _check_publishing(arguments)
    if arguments.hub_model_id is not None:
        from hfgen.hub.addresses import check_repository

        check_repository(arguments.hub_model_id, "hub_model_id")
    if arguments.job:
        if arguments.device != "auto":
            raise SettingsError(f"device: {arguments.device} is this machine's; a job takes its FLAVOR's, leave it out")
        return _train_elsewhere(arguments, config.as_dict())
    if arguments.dry_run:
        from hfgen.training.dry_run import dry_run

        print_findings(dry_run(config, arguments.device))
        return 0
    from hfgen.launch import process_index
    from hfgen.library import train
    from hfgen.outputs import output_folder

    out = arguments.out or output_folder(f"runs/{Path(recipe).stem}")
    main_process = process_index() == 0
    push = _checkpoint_push(arguments) if main_process else None
    folder = train(config, out, resume=arguments.resume, device=arguments.device, on_checkpoint=push)
    if main_process:
        print(folder)
    if push is not None:
        from hfgen.publishing import publish

        push.finish()
        published = publish(out, push.to)
        print(f"{published.url} {published.commit}")
    return 0


def _check_publishing(arguments: argparse.Namespace) -> None:
    if arguments.push_every < 0:
        raise SettingsError(f"push_every: {arguments.push_every} is negative; give 0 or more images")
    if arguments.job is None:
        refuse_idle(arguments, ["job_timeout"], "it goes with --job")
    else:
        refuse_idle(arguments, ("out", "resume"), "a job trains elsewhere, from the beginning")
    if arguments.job is None and not arguments.push_to_hub:
        refuse_idle(arguments, ("hub_model_id", "push_every", "private"), "nothing is published without --push_to_hub")


def _train_elsewhere(arguments: argparse.Namespace, config: dict[str, Any]) -> int:
    """Start a Hub Job, or print the request that would."""
    import json

    from hfgen.publishing.jobs import job_request, submit

    if arguments.hub_model_id is None:
        raise SettingsError("hub_model_id: a job pushes what it trained; give --hub_model_id ORG/NAME")
    options = {"every": arguments.push_every, "timeout": arguments.job_timeout}
    request = job_request(config, arguments.hub_model_id, arguments.job, **options)
    if arguments.dry_run:
        print(json.dumps(request, indent=2))
    else:
        print(submit(request, config, arguments.hub_model_id, private=arguments.private))
    return 0


def _checkpoint_push(arguments: argparse.Namespace) -> CheckpointPush | None:
    if not arguments.push_to_hub:
        return None
    if arguments.hub_model_id is None:
        raise SettingsError("hub_model_id: --push_to_hub needs it; give --hub_model_id ORG/NAME")
    from hfgen.publishing.push import CheckpointPush

    return CheckpointPush(arguments.hub_model_id, arguments.push_every, private=arguments.private)
