"""Programs that run where hfgen can't be imported, as on any machine without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The collector would walk all that torch and diffusers define, also at the end, and free nothing.
_BLOCK = """
import atexit, gc, sys
gc.disable()
atexit.register(gc.freeze)
class _Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hfgen":
            raise ImportError("hfgen can't be imported here")
sys.meta_path.insert(0, _Blocked())
"""
_KEPT = ("OMP_NUM_THREADS", "LD_LIBRARY_PATH", "SYSTEMROOT")


def run_without_hfgen(program: str, *arguments: str | Path, home: Path, **environment: str) -> str:
    """Run Python source in a process without hfgen, network, token or GPU, and return what it prints.

    Args:
        program: Source; it starts with whatever it likes but `from __future__`.
        arguments: Its `sys.argv[1:]`.
        home: An empty folder: its working directory, its home, and the libraries' caches.
        environment: Variables beside.

    Raises:
        RuntimeError: it failed; the message is what it wrote to stderr.
    """
    alone = {"PATH": "", "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"}
    alone |= {"CUDA_VISIBLE_DEVICES": "", **{name: os.environ[name] for name in _KEPT if name in os.environ}}
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK + program, *map(str, arguments)],
        env={**alone, **environment},
        cwd=home,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout
