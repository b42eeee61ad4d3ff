"""The command as a user meets it: in a process of its own, or in this one."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import forks

from hfgen.cli import main


def hfgen(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Started from nothing, which takes seconds where it needs torch."""
    command = [sys.executable, "-m", "hfgen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def _run(arguments: list[str]) -> None:
    sys.exit(main(arguments))


def _benchmark(arguments: list[str]) -> None:
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")


def forked(
    *arguments: object, work: Callable[[list[str]], None] = _run, **environment: str
) -> subprocess.CompletedProcess[str]:
    """In a process of its own that has imported everything already."""
    with tempfile.TemporaryDirectory() as folder:
        out, error = Path(folder, "out"), Path(folder, "error")
        process = forks.start(work, ([*map(str, arguments)],), {**os.environ, **environment}, out, error)
        process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode or 0, out.read_text(), error.read_text())


def begun(*arguments: object, log: Path, **environment: str) -> BaseProcess:
    """The same, which isn't waited for; what it prints goes into `log`."""
    return forks.start(_run, ([*map(str, arguments)],), {**os.environ, **environment}, log, log)


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`scripts/benchmark.py` in such a process."""
    return forked(*arguments, work=_benchmark)


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Without a new process."""
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
