"""From the command line to a verb and back to an exit code. Imports are lazy, so that `--help` is instant."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence

from hfgen import __version__
from hfgen.cli import compare, diagnose, doctor, evaluate, publish, quickstart, reconstruct, sample, space, study, train
from hfgen.cli.options import Parser
from hfgen.errors import SettingsError, UserError
from hfgen.training.interrupts import Interrupted

_VERBS = (quickstart, train, sample, reconstruct, evaluate, compare, publish, diagnose, study, space, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 a user's mistake, 130 Ctrl-C, 141 a closed pipe."""
    logging.basicConfig(level=logging.WARNING, format="hfgen: %(message)s")
    logging.getLogger("hfgen").setLevel(logging.INFO)
    if not sys.stderr.isatty():
        # tqdm's own setting, read when it is imported: a log file needs no ten lines a second.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        arguments, extra = _parser().parse_known_args(argv)
        if extra and not getattr(arguments, "takes_settings", False):
            raise SettingsError(f"{extra[0]}: no such argument; see `hfgen {arguments.verb} --help`")
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
    parser = Parser(prog="hfgen", description="Train, compare and diagnose image autoencoders and generators.")
    parser.add_argument("--version", action="version", version=f"hfgen {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for verb in _VERBS:
        verb.register(verbs)
    return parser
