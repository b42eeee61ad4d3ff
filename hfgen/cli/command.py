"""From the command line to a verb and back to an exit code. Imports are lazy, so that `--help` is instant."""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from hfgen import __version__
from hfgen.cli import compare, diagnose, doctor, evaluate, publish, quickstart, reconstruct, sample, space, study, train
from hfgen.cli.options import Parser
from hfgen.ctrl_c import ctrl_c
from hfgen.errors import SettingsError, UserError
from hfgen.launch import refuse_launcher
from hfgen.training.interrupts import Interrupted

_VERBS = (quickstart, train, sample, reconstruct, evaluate, compare, publish, diagnose, study, space, doctor)

# What the system answers to a wrong path, wherever it is opened.
_OF_USERS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EXDEV,
)


# How Python, and torch's allocators of CPUs and GPUs, say that memory is used up.
_NO_MEMORY = ("unable to allocate", "out of memory", "can't allocate memory", "not enough memory")


class _Once(logging.Filter):
    """Drops a warning that was logged already: one command opens the same data several times."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        line = record.getMessage()
        if record.levelno != logging.WARNING or line not in self._said:
            self._said.add(line)
            return True
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 2 a user's mistake, 130 Ctrl-C, 141 a closed pipe."""
    logging.basicConfig(level=logging.WARNING, format="hfgen: %(message)s")
    logger, once = logging.getLogger("hfgen"), _Once()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(once)
    try:
        return exit_code(partial(_run, argv), "hfgen")
    finally:
        logger.removeFilter(once)
        logger.setLevel(level)


def _run(argv: Sequence[str] | None) -> int:
    if not sys.stderr.isatty():
        # tqdm's own setting, read when it is imported: a log file needs no ten lines a second.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    arguments, extra = _parser().parse_known_args(argv)
    _place(extra, arguments)
    if not getattr(arguments, "shares_work", False):
        refuse_launcher(f"`hfgen {arguments.verb}`")
    return arguments.run(arguments) or 0


def exit_code(run: Callable[[], int], program: str) -> int:
    """What `run` returns, or the code of what ended it, which is said in one line that begins with `program`.

    `HFGEN_DEBUG=1` lets the error of a mistake through.
    """
    fail = partial(_fail, program=program)
    try:
        with ctrl_c():
            return run()
    except Interrupted as interrupted:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return interrupted.exit_code
    except KeyboardInterrupt:
        return fail("stopped by Ctrl-C", 130)
    except UserError as error:
        return fail(str(error), 2)
    except BrokenPipeError:
        # The reader has closed the pipe; Python would report it once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (MemoryError, RuntimeError) as error:
        said = str(error)
        if not isinstance(error, MemoryError) and not any(words in said.lower() for words in _NO_MEMORY):
            raise
        detail = f" ({said.splitlines()[0]})" if said else ""
        less = "fewer or smaller images at once, by those of --n, --batch_size, --resolution and --tile that it has"
        return fail(f"memory: there is too little of it{detail}; give the command {less}", 2)
    except ModuleNotFoundError as error:
        if (error.name or "hfgen").partition(".")[0] == "hfgen":
            raise
        return fail(f"{error.name}: this package isn't installed; `hfgen doctor` says what is missing", 2)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = error.filename or "while writing"
            return fail(f"out: the disk is full ({where}); free some space, then repeat", 2)
        if error.errno not in _OF_USERS:
            raise
        return fail(f"{error.filename}: {error.strerror}; check this path and its permissions, then repeat", 2)


def _place(extra: list[str], arguments: argparse.Namespace) -> None:
    """Give a verb what argparse left over: `train` its settings, `compare A --out DIR B` its second model.

    Raises:
        SettingsError: the verb takes nothing of the kind; the first one is named.
    """
    takes = getattr(arguments, "takes", None)
    unknown = next((word for word in extra if takes is None or (takes != "settings" and word.startswith("-"))), None)
    if unknown is not None:
        options = [name for name in arguments.parser._option_string_actions if name.startswith("--")]
        near = difflib.get_close_matches(unknown.partition("=")[0], options, 1, 0.6)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise SettingsError(f"{unknown}: no such argument{meant}; see `hfgen {arguments.verb} --help`")
    if takes is not None:
        setattr(arguments, takes, [*getattr(arguments, takes, []), *extra])


def _fail(message: str, code: int, program: str) -> int:
    if os.environ.get("HFGEN_DEBUG"):
        raise
    print(f"{program}: error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="hfgen", description="Train, compare and diagnose image autoencoders and generators.")
    parser.add_argument("--version", action="version", version=f"hfgen {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for verb in _VERBS:
        verb.register(verbs)
    return parser
