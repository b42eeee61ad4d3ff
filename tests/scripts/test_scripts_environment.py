"""`make_environment` where something is missing: one line, exit code 2, and the next try works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "grep", "head", "rm", "sed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script reads, in a folder whose name has a space; only TOOLS are on its PATH."""
    folder = tmp_path / "a checkout"
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "scripts/environment.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "hfgen").mkdir()
    shutil.copyfile(ROOT / "hfgen" / "__init__.py", folder / "hfgen" / "__init__.py")
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} isn't installed"))
    return folder


def python(checkout: Path, name: str, before: str) -> Path:
    """A Python called `name`: a shell script that does `before`, then becomes this one."""
    path = checkout.parent / "bin" / name
    path.write_text(f'#!/usr/bin/env bash\n{before}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


def make(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    script = 'set -euo pipefail; source scripts/environment.sh; make_environment; echo "ready"'
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    known = {"PATH": str(checkout.parent / "bin"), "HOME": str(checkout.parent), **offline, **environment}
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=checkout, env=known)


def refused(checkout: Path) -> str:
    done = make(checkout)
    assert done.returncode == 2 and "ready" not in done.stdout, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("hfgen: error: ")


OLD = """for word; do [ "$word" = --version ] && { echo "Python 3.10.9"; exit; }; done; [ "$1" = - ] && exit 1"""
WITHOUT_VENV = """for word; do [ "$word" = ensurepip ] && exit 1; done"""


def test_without_a_supported_python_it_says_which_are(checkout: Path):
    assert refused(checkout) == "no Python from 3.11 to 3.14 was found (python3 is missing); install one, then repeat"
    python(checkout, "python3", OLD)
    assert "(python3 is Python 3.10.9)" in refused(checkout)
    assert not (checkout / ".venv").exists()


def test_a_python_that_cant_make_environments_is_named_with_its_package(checkout: Path):
    python(checkout, "python3", WITHOUT_VENV)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert refused(checkout).endswith(f"on Debian and Ubuntu: apt-get install {version}-venv")
    assert not (checkout / ".venv").exists()


def test_an_old_python3_beside_a_supported_one_is_passed_over_and_without_network_it_is_one_line(checkout: Path):
    python(checkout, "python3", OLD)
    python(checkout, f"python3.{sys.version_info[1]}", "")
    # What an interrupted `python -m venv` leaves: a folder without a Python that works.
    (checkout / ".venv" / "bin").mkdir(parents=True)
    done = make(checkout)
    assert done.returncode == 2 and "making .venv anew" in done.stdout
    (line,) = done.stderr.splitlines()
    assert "the package index can't be reached; check the network, then repeat" in line
    log = line[line.index("(") + 1 : -1]
    assert Path(log).read_text() and Path(log).parent == checkout / ".venv"
    assert not list((checkout / ".venv").glob("installed-*"))


@pytest.mark.parametrize(
    ("file", "line"), [("constraints.txt", "tqdm==4.66"), ("hfgen/__init__.py", "__version__ = 'next'")]
)
def test_a_finished_environment_is_used_again_until_what_is_wanted_changes(checkout: Path, file: str, line: str):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    stamp = subprocess.check_output(["bash", "-c", "source scripts/environment.sh; _stamp"], cwd=checkout)
    (checkout / ".venv" / "installed-base").write_bytes(stamp)
    done = make(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
    with (checkout / file).open("a") as opened:
        opened.write(line + "\n")
    assert "no Python" in refused(checkout)


def test_the_folder_above_the_checkout_does_not_hide_the_package(tmp_path: Path):
    (tmp_path / "hfgen").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["-c", "import hfgen; print(hfgen.__version__)"], ["-m", "hfgen", "--version"]):
        subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, check=True)
