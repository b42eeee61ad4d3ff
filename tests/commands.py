"""The command as a user meets it: in a process of its own, or in this one."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable

from hfgen.cli import main


def hfgen(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hfgen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same without a new process, which takes seconds to import what it needs."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


def refused(*arguments: object, run: Callable[..., subprocess.CompletedProcess[str]] = hfgen) -> str:
    """The one line of a refusal: exit code 2, nothing else on the screen but the device, where it was chosen before."""
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("hfgen: computing on "))
    assert line.startswith("hfgen: error: ") and not done.stdout, (line, done.stdout)
    return line.removeprefix("hfgen: error: ")
