"""`python scripts/benchmark.py COMMAND`: measured speeds against their bars; `--check` exits 1 where one is missed."""

import argparse
import importlib
import os
import sys

from hfgen.cli.command import exit_code
from hfgen.imports import without_collector

COMMANDS = {
    "train": "the training loop against a bare one and against peers' loops",
    "roofline": "what bounds a training step on one core, kernel by kernel",
    "startup": "what `hfgen train` spends before its first step, by package",
    "processes": "one recipe in one and in several processes",
    "quality": "recipes and peers on the same images for the same minutes, judged alike",
    "prior": "a VQ-VAE's samples against its reconstructions, beside its prior's likelihood",
    "flow": "a flow's steps against quality and time, beside the VAE's decoder",
    "faults": "models with a planted fault each, and whether `hfgen diagnose` names it first",
    "space": "the Space: cold start, a warm reconstruction, many visitors at once",
    "coverage": "how often each 95 % interval holds the truth, simulated",
    "evaluate": "`hfgen evaluate` against a bare loop over the same images",
    "judge": "what the extractors see of known degradations of real images",
    "gpu": "the whole list of what only a GPU can show, in one call",
    "data": "images gathered into batches, a second and core",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command of `scripts/benchmarks`; a user's mistake is one line and exit code 2, as of `hfgen`."""
    # tqdm's own setting, read when it is imported: bars would come between the rows.
    os.environ.setdefault("TQDM_DISABLE", "1")
    with without_collector(freeze=True):
        parser = make_parser()
    parsed = parser.parse_args(arguments)
    return exit_code(lambda: parsed.run(parsed), "benchmark.py")


def make_parser() -> argparse.ArgumentParser:
    """Of all commands; each brings its own arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in COMMANDS}
    for name, module in modules.items():
        command = commands.add_parser(name, help=COMMANDS[name].replace("%", "%%"), description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
