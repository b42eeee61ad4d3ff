"""What is installed: supported versions in one place, every import declared, one line from a git address."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import hfgen
from hfgen.extras import install_command

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# What the Space's machine has of itself, peers that a benchmark compares with, and what lies in scripts.
ELSEWHERE = {"spaces", "pythae", "benchmark", "benchmarks"}


def supported() -> list[str]:
    """Python's versions that `requires-python` takes, such as 3.11."""
    return [f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in SpecifierSet(PROJECT["requires-python"])]


def test_supported_pythons_are_the_same_everywhere():
    prefix = "Programming Language :: Python :: 3."
    classified = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if line.startswith(prefix)]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    assert classified == jobs["linux"]["strategy"]["matrix"]["python"] == supported()
    lowest = supported()[0]
    assert PYPROJECT["tool"]["mypy"]["python_version"] == lowest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert f"Python {lowest} to {supported()[-1]}" in (ROOT / "README.md").read_text()


def test_the_workflow_tries_torch_versions_that_are_supported():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    (torch,) = (Requirement(line) for line in PROJECT["dependencies"] if Requirement(line).name == "torch")
    tried = [job["torch"] for job in jobs["linux"]["strategy"]["matrix"]["include"]]
    assert len(tried) >= 2 and all(one in torch.specifier for one in tried)
    (lowest,) = (part.version for part in torch.specifier if part.operator == ">=")
    assert tried[0].startswith(f"{lowest}."), "the oldest supported torch isn't tried"


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT and version("hfgen") == hfgen.__version__


def imported(*folders: str) -> set[str]:
    """Names of the top-level modules that the files import, wherever in the file, without the standard library's."""
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found |= {name.split(".")[0] for name in names}
    ours = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {path.name for path in (ROOT / "tests").iterdir()}
    return found - set(sys.stdlib_module_names) - {"hfgen"} - ours - ELSEWHERE


def declared(*extras: str) -> set[str]:
    lines = [*PROJECT["dependencies"], *(line for name in extras for line in PROJECT["optional-dependencies"][name])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("hfgen", "spaces"), ("space", "inception", "metric")),
        # Run from a checkout: the benchmark of the Space looks at it in a browser, as its tests do.
        (("scripts",), ("space", "test")),
        (("tests",), ("test",)),
    ],
)
def test_every_import_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]):
    owners = packages_distributions()
    for module in sorted(imported(*folders)):
        names = {canonicalize_name(name) for name in owners.get(module, [module])}
        # Gradio's client is a part of Gradio that has a name of its own.
        names |= {"gradio"} if module == "gradio_client" else set()
        assert names & declared(*extras), f"{module} ({', '.join(names)}) isn't in pyproject.toml"


def test_every_dependency_is_imported():
    owners = packages_distributions()
    used = {canonicalize_name(name) for module in imported("hfgen") for name in owners.get(module, ())}
    assert declared() <= used


def test_what_a_message_tells_to_install_has_no_name_that_no_index_knows():
    assert install_command("space") == f"pip install '{PROJECT['optional-dependencies']['space'][0]}'"
    assert "torch-fidelity" in install_command("inception")
    texts = [path for name in ("hfgen", "scripts", "spaces") for path in (ROOT / name).rglob("*")]
    texts = [path for path in [ROOT / "README.md", *texts] if path.suffix in (".py", ".md", ".sh", ".txt")]
    for path in texts:
        after = re.findall(r"pip install ['\"]?hfgen\S*\s*(.)", path.read_text(errors="replace"))
        assert all(sign == "@" for sign in after), f"{path}: no index has hfgen; give a git address or a checkout"


def test_one_line_installs_it_from_a_git_address(tmp_path: Path):
    """Into a folder of its own and without its dependencies, which are here already."""
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("not a git checkout")
    pytest.importorskip("setuptools")
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    line = f"hfgen[space] @ git+{ROOT.as_uri().replace('file://', 'file://localhost')}"
    done = subprocess.run([*command, "--target", str(target), line], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (target / "hfgen" / "py.typed").is_file() and (target / "hfgen" / "recipes" / "vae-glyphs.yaml").is_file()
    environment = {**os.environ, "PYTHONPATH": str(target)}
    said = subprocess.run(
        [sys.executable, target / "bin" / "hfgen", "--version"], capture_output=True, text=True, env=environment
    )
    assert said.stdout == f"hfgen {hfgen.__version__}\n", said.stderr
    program = "import hfgen; print(hfgen.__file__)"
    where = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd="/")
    assert where.stdout.strip() == str(target / "hfgen" / "__init__.py")
