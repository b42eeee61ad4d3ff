"""`hfgen quickstart`: the main job, end to end."""

from __future__ import annotations

import argparse
import os
import shlex

from hfgen.cli.options import Verbs, add_compute, add_data, add_out, add_split, add_verb, columns, compute_options
from hfgen.data_options import DEFAULT_DATA
from hfgen.imports import without_collector


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "quickstart", run, "train a VAE, a VQ-VAE and a GAN on the same data and compare them")
    add_out(verb, "folder for everything (%(default)s)", default="runs/quickstart")
    verb.add_argument("--max_images", type=int, help="images that each model sees, the same for all (16000)")
    verb.add_argument("--n", type=int, help="held-out images, and samples (all, up to 2000)")
    add_data(verb, default=DEFAULT_DATA)
    add_split(verb, small_images="pad")
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Run the main job."""
    with without_collector(freeze=True):
        from hfgen.quickstart import MODELS, quickstart

    names = ("max_images", "n", "split", "small_images", "skip_damaged", *columns(arguments))
    options = {**{name: getattr(arguments, name) for name in names}, **compute_options(arguments)}
    report = quickstart(arguments.data, arguments.out, **options)
    models = " ".join(shlex.quote(str(arguments.out / name)) for name in MODELS)
    activate = os.environ.get("HFGEN_ACTIVATE")
    then = f"{activate} && " if activate else ""
    print(f"then, for example: {then}hfgen space {models}")
    print(f"open {report}")
