"""The `hfgen` command: a verb, a function. Imports are lazy, so that `--help` is instant."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hfgen import __version__
from hfgen.errors import UserError
from hfgen.recipes import recipe_names, recipe_summary
from hfgen.training.interrupts import Interrupted

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.publishing.push import CheckpointPush

SMALL_IMAGES = ("refuse", "pad", "upscale")


class _Parser(argparse.ArgumentParser):
    """argparse, whose complaints are one line like every other."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 a user's mistake, 130 Ctrl-C, 141 a closed pipe."""
    logging.basicConfig(level=logging.WARNING, format="hfgen: %(message)s")
    logging.getLogger("hfgen").setLevel(logging.INFO)
    if not sys.stderr.isatty():
        # tqdm's own setting, read when it is imported: a log file needs no ten lines a second.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        arguments, extra = _parser().parse_known_args(argv)
        if extra and arguments.run is not train:
            raise UserError(f"{extra[0]}: no such argument; see `hfgen {arguments.verb} --help`")
        arguments.overrides = extra
        return arguments.run(arguments) or 0
    except Interrupted as interrupted:
        print(f"hfgen: {interrupted}", file=sys.stderr)
        return interrupted.exit_code
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C", 130)
    except UserError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _fail(f"out: the disk is full ({error.filename or 'while writing'}); free some space, then repeat", 2)


def _fail(message: str, code: int) -> int:
    if os.environ.get("HFGEN_DEBUG"):
        raise
    print(f"hfgen: error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hfgen", description="Train, compare and diagnose image autoencoders and generators.")
    parser.add_argument("--version", action="version", version=f"hfgen {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def add(run: Callable[[argparse.Namespace], int | None], help: str, **options: object) -> argparse.ArgumentParser:
        verb = verbs.add_parser(run.__name__, help=help, description=help, **options)  # type: ignore[arg-type]
        verb.set_defaults(run=run, parser=verb)
        return verb

    verb = add(quickstart, "train a VAE, a VQ-VAE and a GAN on the same data and compare them")
    verb.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder for everything (%(default)s)")
    verb.add_argument("--max_images", type=int, help="images that each model sees (its recipe's)")
    verb.add_argument("--n", type=int, default=2000, help="held-out images, and samples (%(default)s)")
    _add_data(verb, default="glyphs")

    verb = add(
        train,
        "train a recipe; any of its settings can be overridden",
        add_help=False,
        usage="hfgen train RECIPE|--config FILE [--out DIR] [--resume auto|never] [--SETTING VALUE ...]",
        epilog="recipes:\n" + "\n".join(f"  {name:<20} {recipe_summary(name)}" for name in recipe_names()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("recipe", nargs="?", help="a recipe's name; with --help, all its settings are listed")
    verb.add_argument("--config", type=Path, help="a YAML file like the recipes, instead of a name")
    verb.add_argument("--out", type=Path, help="the run's folder (runs/RECIPE)")
    verb.add_argument("--resume", choices=("auto", "never"), default="auto", help="auto continues the run in --out")
    verb.add_argument("--dry_run", action="store_true", help="print networks, phases and settings, and train nothing")
    verb.add_argument("--push_to_hub", action="store_true", help="publish the finished run to --hub_model_id")
    verb.add_argument("--hub_model_id", metavar="ORG/NAME", help="the repository; it is made if it isn't there")
    verb.add_argument("--push_every", type=int, default=0, help="images between checkpoints for its branch `training`")
    verb.add_argument("--private", action="store_true", help="make that repository private")
    verb.add_argument("--job", metavar="FLAVOR", help="train on the Hub's hardware (`hf jobs hardware`), not here")
    verb.add_argument("--job_timeout", default="6h", help="longest time that the job may take (%(default)s)")
    verb.add_argument("-h", "--help", action="store_true", help="show this, or a recipe's settings")

    verb = add(sample, "draw images from a model")
    verb.add_argument("model", metavar="MODEL", help="a run's folder, a checkpoint's, or org/name[@revision]")
    verb.add_argument("--n", type=int, default=64, help="how many images (%(default)s)")
    verb.add_argument("--seed", type=int, default=0, help="seed of the images (%(default)s)")
    verb.add_argument("--out", type=Path, default=Path("grid.png"), help="PNG file (%(default)s)")

    verb = add(reconstruct, "show images above their reconstructions")
    verb.add_argument("model", metavar="MODEL", help="a run's folder, a checkpoint's, or org/name[@revision]")
    verb.add_argument("--n", type=int, default=32, help="how many images (%(default)s)")
    verb.add_argument("--out", type=Path, default=Path("grid.png"), help="PNG file (%(default)s)")
    _add_data(verb)
    _add_split(verb)

    verb = add(
        evaluate,
        "measure a model, or images that anything made, on held-out images",
        usage="hfgen evaluate MODEL|--samples DATA --data DATA --out DIR [...]\n"
        "       hfgen evaluate --verify DIR|ORG/NAME",
    )
    verb.add_argument("model", metavar="MODEL", nargs="?", help="a run's folder, a checkpoint's or org/name[@revision]")
    verb.add_argument("--samples", metavar="DATA", help="generated images instead of a model: a folder or a Hub id")
    verb.add_argument("--samples_split", default="all", help="split of the samples (%(default)s)")
    verb.add_argument("--resolution", type=int, help="for samples, and autoencoders of any size (their own)")
    help = "measure an evaluation dataset again and compare: what evaluate wrote, or a published org/name[@revision]"
    verb.add_argument("--verify", metavar="DIR", help=help)
    verb.add_argument("--out", type=Path, help="folder for record.json and dataset/")
    _add_measurement(verb, data_required=False)

    verb = add(compare, "measure models on the same images and report the differences")
    verb.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="runs' folders, checkpoints' or org/name[@revision]; without --data, folders that `hfgen evaluate` wrote",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for comparison.json, report.html, dataset/")
    _add_measurement(verb, data_required=False)

    verb = add(publish, "put a model, a dataset or a Space on the Hub, as one commit")
    help = "a run, an evaluation's folder or a Space's; or glyphs or stacked, drawn as a dataset"
    verb.add_argument("folder", metavar="DIR", type=Path, help=help)
    verb.add_argument("--to", required=True, metavar="ORG/NAME", help="the repository; it is made if it isn't there")
    verb.add_argument("--dry_run", action="store_true", help="list files, sizes and the card, without the network")
    verb.add_argument("--private", action="store_true", help="make the repository private")
    verb.add_argument("--revision", metavar="BRANCH", default="main", help="branch to write to (%(default)s)")
    verb.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    verb.add_argument("--collection", metavar="NAME", help="title or slug of a collection to put it into")
    verb.add_argument("--license", help="identifier such as apache-2.0 (what the README says)")
    verb.add_argument("--record", type=Path, help="a model's record.json, where it isn't in DIR")
    verb.add_argument("--diagnosis", type=Path, help="likewise its diagnosis.json")
    verb.add_argument("--study", type=Path, help="study.json, whose verdicts a model's card tells")
    verb.add_argument("--models", nargs="+", metavar="ORG/NAME", help="what a Space shows, each pinned to its commit")
    verb.add_argument("--data", help="where a Space's examples are from (what its first model was measured on)")
    verb.add_argument("--results", type=Path, metavar="DIR", help="comparison.json or study.json for a Space to show")
    verb.add_argument("--resolution", type=int, default=32, help="of glyphs and stacked (%(default)s)")

    verb = add(diagnose, "find out why a model's images are blurred, or that they aren't")
    verb.add_argument("model", metavar="MODEL", help="a run's folder, a checkpoint's, or org/name[@revision]")
    verb.add_argument("--out", type=Path, required=True, help="folder for diagnosis.json and waterfall.png")
    verb.add_argument("--budget", choices=("small", "full"), default="small", help="of the interventions (%(default)s)")
    verb.add_argument("--resolution", type=int, help="for autoencoders of any size (their own)")
    _add_measurement(verb, n=None)

    verb = add(study, "put what people say about blur to the test: train small models, decide claim by claim")
    verb.add_argument("claims", metavar="CLAIM", nargs="*", help="names of studies; an unknown one lists them (all)")
    verb.add_argument("--budget", choices=("smoke", "full"), default="full", help="smoke decides nothing (%(default)s)")
    verb.add_argument("--data", default="glyphs", help="what models are trained on, at 16 px (%(default)s)")
    verb.add_argument("--out", type=Path, required=True, help="folder for study.json, report.html, figures/ and cells/")

    verb = add(space, "show models in the browser: reconstruct, generate, why they are blurred, compare")
    help = "runs' folders, checkpoints' or org/name[@revision]; by default those of `hfgen quickstart`"
    verb.add_argument("models", metavar="MODEL", nargs="*", help=help)
    verb.add_argument("--data", help="where examples are from (what the models were measured on, or glyphs)")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    verb.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")

    add(doctor, "say what this machine can do, and what is missing")
    return parser


def _add_data(verb: argparse.ArgumentParser, default: str | None = None, *, required: bool = True) -> None:
    help = "glyphs, stacked, a folder of images or parquet files, or a Hub id"
    verb.add_argument("--data", default=default, required=required and default is None, help=help)
    verb.add_argument("--skip_damaged", action="store_true", help="leave damaged images out and count them")


def _add_split(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--split", default="test", help="split of the data (%(default)s)")
    verb.add_argument("--small_images", choices=SMALL_IMAGES, default="refuse", help="images below the resolution")


def _add_measurement(verb: argparse.ArgumentParser, *, data_required: bool = True, n: int | None = 2000) -> None:
    _add_data(verb, required=data_required)
    _add_split(verb)
    most = "the budget's" if n is None else n
    verb.add_argument("--n", type=int, default=n, help=f"held-out images, and samples ({most})")
    verb.add_argument("--seed", type=int, default=0, help="chooses the images and draws the samples (%(default)s)")
    help = "embedded (trained on the data), inception, or an image network of transformers: a folder or a Hub id"
    verb.add_argument("--extractor", default="embedded", help=help)


def quickstart(arguments: argparse.Namespace) -> None:
    """Run the main job."""
    from hfgen.quickstart import quickstart as run

    options = {name: getattr(arguments, name) for name in ("max_images", "n", "skip_damaged")}
    report = run(arguments.data, arguments.out, **options)
    print(f"open {report}")


def train(arguments: argparse.Namespace) -> int:
    """Train a recipe, or list its settings."""
    if arguments.help and arguments.recipe is None:
        arguments.parser.print_help()
        return 0
    if (arguments.recipe is None) == (arguments.config is None):
        raise UserError(
            "recipe: give a recipe's name or --config FILE, one of them; `hfgen train --help` lists recipes"
        )
    from hfgen.configs import describe_config, load_config

    if arguments.help:
        print(describe_config(arguments.recipe))
        return 0
    config = load_config(arguments.config or arguments.recipe, arguments.overrides)
    if arguments.job:
        return _train_elsewhere(arguments, config.as_dict())
    if arguments.dry_run:
        from hfgen.training.plan import plan

        _print_findings(plan(config))
        return 0
    from hfgen.training.loop import train as run

    out = arguments.out or Path("runs") / (arguments.recipe or arguments.config.stem)
    main_process = os.environ.get("RANK", "0") == "0"
    push = _checkpoint_push(arguments) if main_process else None
    folder = run(config, out, resume=arguments.resume, on_checkpoint=push)
    if main_process:
        print(folder)
    if push is not None:
        from hfgen.publishing import publish

        push.finish()
        published = publish(out, push.to)
        print(f"{published.url} {published.commit}")
    return 0


def _train_elsewhere(arguments: argparse.Namespace, config: dict[str, Any]) -> int:
    """Start a Hub Job, or print the request that would."""
    import json

    from hfgen.publishing.jobs import job_request, submit

    if arguments.hub_model_id is None:
        raise UserError("hub_model_id: a job pushes what it trained; give --hub_model_id ORG/NAME")
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
        raise UserError("hub_model_id: --push_to_hub needs it; give --hub_model_id ORG/NAME")
    from hfgen.publishing.push import CheckpointPush

    return CheckpointPush(arguments.hub_model_id, arguments.push_every, private=arguments.private)


def sample(arguments: argparse.Namespace) -> None:
    """Save a grid of samples."""
    import torch

    import hfgen
    from hfgen.images import unit_to_uint8

    _at_least_one(arguments.n)
    pipeline = hfgen.load(arguments.model)
    if not pipeline.can_sample:
        raise UserError(
            f"model: {arguments.model} is a {pipeline.family}, which draws nothing without a condition; "
            "use `hfgen reconstruct MODEL --data DATA`, or pipe(condition=images)"
        )
    generator = torch.Generator().manual_seed(arguments.seed)
    images = pipeline(batch_size=arguments.n, generator=generator, output_type="pt").images
    _save_grid(unit_to_uint8(images), arguments.out)


def reconstruct(arguments: argparse.Namespace) -> None:
    """Save a grid: rows of images, and under each its reconstruction."""
    import torch

    import hfgen
    from hfgen.data import batch_indices, open_store
    from hfgen.images import to_float, unit_to_uint8

    _at_least_one(arguments.n)
    pipeline = hfgen.load(arguments.model)
    if not pipeline.can_reconstruct:
        raise UserError(f"model: {arguments.model} is a {pipeline.family} without encoder; give a VAE or a VQ-VAE")
    store = open_store(
        arguments.data,
        split=arguments.split,
        resolution=pipeline.sample_size,
        channels=pipeline.channels,
        small_images=arguments.small_images,
        skip_damaged=arguments.skip_damaged,
        condition=pipeline.paired_with,
    )
    inputs = store.images[batch_indices(len(store), 0, min(arguments.n, len(store)), 0)]
    originals = inputs[:, : store.channels]
    output = pipeline.reconstruct(to_float(inputs), output_type="pt").images
    rows = [row for pair in zip(originals.split(8), unit_to_uint8(output).split(8), strict=True) for row in pair]
    _save_grid(torch.cat(rows), arguments.out)


def _at_least_one(n: int) -> None:
    if n < 1:
        raise UserError(f"n: {n} images can't be drawn; give 1 or more")


def _save_grid(images: Tensor, path: Path) -> None:
    from hfgen.images import grid, write_png

    write_png(path, grid(images, columns=8, zoom=max(1, 128 // images.shape[-1])))
    print(path)


def evaluate(arguments: argparse.Namespace) -> None:
    """Measure one model or somebody's images, or verify an evaluation."""
    given = [name for name in ("model", "samples", "verify") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise UserError("model: give MODEL, --samples DATA or --verify DIR, only one of them")
    if arguments.verify is not None:
        from hfgen.evaluation.verification import verify

        print(f"{arguments.verify}: {verify(arguments.verify)} numbers are the same, bit for bit")
        return
    for name in ("data", "out"):
        if getattr(arguments, name) is None:
            raise UserError(f"{name}: evaluate needs --{name}; see `hfgen evaluate --help`")
    from hfgen.evaluation import run as evaluation

    options = {**_measurement(arguments), "resolution": arguments.resolution, "out": arguments.out}
    if arguments.samples is not None:
        options["samples_split"] = arguments.samples_split
        found = evaluation.evaluate_samples(arguments.samples, arguments.data, **options)
    else:
        found = evaluation.evaluate(arguments.model, arguments.data, **options)
    for name, entry in found.record["metrics"].items():
        print(f"{name:<34} {entry['value']:>9.4g}   [{entry['low']:.4g}, {entry['high']:.4g}]")
    print(arguments.out / "record.json")


def _measurement(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("split", "n", "seed", "small_images", "skip_damaged", "extractor")
    return {name: getattr(arguments, name) for name in names}


def compare(arguments: argparse.Namespace) -> None:
    """Measure several models on the same images, or read what was measured of them."""
    import hfgen
    from hfgen.comparison.run import compare as run
    from hfgen.evaluation.finished import is_finished, read_evaluation
    from hfgen.evaluation.run import evaluate as measure
    from hfgen.evaluation.timing import measure_costs

    names = [Path(model.removesuffix("/").removesuffix("/pretrained")).name for model in arguments.models]
    if len(set(names)) < len(names):
        raise UserError(f"models: two are called {max(names, key=names.count)}; rename a folder to tell them apart")
    evaluations, costs = {}, {}
    for name, model in zip(names, arguments.models, strict=True):
        if is_finished(Path(model), given_data=arguments.data is not None):
            evaluations[name] = read_evaluation(Path(model))
        else:
            evaluations[name] = measure(model, arguments.data, out=arguments.out / name, **_measurement(arguments))
            costs[name] = measure_costs(hfgen.load(model))
    for sentence in run(evaluations, arguments.out, costs=costs)["reading"]:
        print(f"- {sentence}")
    print(f"open {arguments.out / 'report.html'}")


def diagnose(arguments: argparse.Namespace) -> None:
    """Intervene on one model and say what blurs it."""
    from hfgen.diagnosis import diagnose as run

    options = {**_measurement(arguments), "resolution": arguments.resolution, "budget": arguments.budget}
    document = run(arguments.model, arguments.data, out=arguments.out, **options)
    for entry in document["ranking"]:
        print(f"{entry['cause']:<24} {entry['score']:.2f} of {entry['of']}")
    for sentence in document["advice"]:
        print(f"- {sentence}")
    print(arguments.out / "waterfall.png")


def study(arguments: argparse.Namespace) -> None:
    """Decide on claims by experiment."""
    from hfgen.studies import run_studies

    document = run_studies(arguments.claims, arguments.out, data=arguments.data, budget=arguments.budget)
    for row in document["verdicts"]:
        print(f"{row['verdict']:<13} {row['study']}: {row['claim']}\n{'':<13} {row['number']}")
    print(f"open {arguments.out / 'report.html'}")


def publish(arguments: argparse.Namespace) -> None:
    """Publish a folder, or say what that would do."""
    from hfgen.publishing import plan
    from hfgen.publishing import publish as run

    to = arguments.to
    said = {name: getattr(arguments, name) for name in ("license", "record", "diagnosis", "study")}
    with _published_folder(arguments) as folder:
        if arguments.dry_run:
            planned = plan(folder, to, **said)
            print(f"{planned.kind} {to}")
            _print_findings((name, f"{size:,} bytes") for name, size in planned.sizes.items())
            print(planned.card)
            return
        where = {name: getattr(arguments, name) for name in ("private", "revision", "create_pr", "collection")}
        published = run(folder, to, **said, **where)
    print(f"{published.url} {published.commit}" + ("" if published.changed else " (nothing had changed)"))


@contextmanager
def _published_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder as it is, or one made for the occasion: a Space of models, or a built-in set."""
    import tempfile

    source = arguments.folder
    is_built_in = str(source) in ("glyphs", "stacked") and not source.exists()
    if not is_built_in and arguments.models is None:
        yield source
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / source.name
        if is_built_in:
            from hfgen.data.export import export

            export(str(source), folder, arguments.resolution)
        else:
            from hfgen.space.assemble import assemble

            assemble(source, arguments.models, folder, data=arguments.data, results=arguments.results)
        yield folder


def space(arguments: argparse.Namespace) -> None:
    """Serve the Space until Ctrl-C."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise UserError("gradio: it isn't installed, and the Space needs it; pip install 'hfgen[space]'")
    from hfgen.space.shelf import open_shelf, quickstart_models

    models = arguments.models or quickstart_models()
    from hfgen.space.interface import launch

    shelf = open_shelf(models, arguments.data)
    launch(shelf, server_name=arguments.host, server_port=arguments.port)


def doctor(arguments: argparse.Namespace) -> None:
    """Say what this machine can do."""
    from hfgen.doctor import findings

    _print_findings(findings())


def _print_findings(findings: Iterable[tuple[str, str]]) -> None:
    for name, finding in findings:
        print(f"{name:<24} {finding}")
