"""Imports go down the layers only and in no circle, files keep their limits, and the map in hfgen/README.md is true."""

import ast
import re
import subprocess
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS = [
    "__main__",
    "cli",
    "space",
    "quickstart",
    "doctor",
    "studies",
    "library",
    "diagnosis",
    "publishing",
    "comparison",
    "evaluation",
    "reporting",
    "metrics",
    "configs",
    "families",
    "training",
    "pipelines",
    "autoencoders",
    "objectives",
    "models",
    "data",
    "hub",
    "kernels",
    "devices",
    "outputs",
    "images",
    "recipes",
    "documents",
    "folders",
    "files",
    "seeds",
    "bars",
    "launch",
    "limits",
    "setting_bounds",
    "imports",
    "extras",
    "data_options",
    "ctrl_c",
    "errors",
]
"""From the top: a file imports those of its own layer and of the layers after it."""

TOP_LEVEL = [
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "constraints.txt",
    "hfgen",
    "spaces",
    "scripts",
    "tests",
    "model_cards",
]

MOST_LINES, FEWEST_LINES = 350, 30

LONGER = {
    "hfgen/pipelines/hfgen_pipelines_v1.py": "diffusers fetches one module of a pipeline and nothing that it imports",
}
SHORTER = {
    "hfgen/__main__.py": "what `python -m hfgen` wants",
    "hfgen/bars.py": "pipelines, models, data and training need it",
    "hfgen/errors.py": "everything needs it",
    "hfgen/extras.py": "read without torch and by the doctor",
    "hfgen/cli/doctor.py": "a verb is a module",
    "hfgen/models/initialise.py": "all networks begin with it",
    "hfgen/training/schedules.py": "the trainer's and the families'",
    "scripts/train.py": "the target of `accelerate launch`",
    "tests/data/conftest.py": "fixtures lie in a conftest",
    "tests/metrics/conftest.py": "fixtures lie in a conftest",
    "tests/scripts/conftest.py": "fixtures lie in a conftest",
    "tests/pairs.py": "tests of four folders need it",
    "tests/ports.py": "tests of three folders need it",
    "tests/sizes.py": "tests of two folders need it",
    "tests/scripts/test_scripts_benchmark_space.py": "it tests one script",
}


def tracked(*patterns: str) -> list[str]:
    """Paths of the repository's files, those that are new among them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({path for path in listed if (ROOT / path).is_file()})


def modules() -> dict[str, Path]:
    """Every module of hfgen by its name; a package is its `__init__`."""
    paths = {path: Path(path).with_suffix("").parts for path in tracked("hfgen/*.py")}
    return {".".join(parts).removesuffix(".__init__"): ROOT / path for path, parts in paths.items()}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of hfgen that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in names.values()}
    return found & known.keys()


def layer_of(module: str) -> str:
    """`data` of hfgen.data.store."""
    return module.split(".")[1] if "." in module else module


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_go_down_the_layers():
    known = modules()
    for module, path in known.items():
        for other in imports(path, known):
            # The version lies in the package itself.
            if "hfgen" in (module, other) or layer_of(module) == layer_of(other):
                continue
            above, below = (LAYERS.index(layer_of(name)) for name in (module, other))
            assert above < below, f"{module} imports {other}, which lies above it"


def test_no_file_imports_itself_by_way_of_others():
    known = modules()
    assert circle({module: imports(path, known) for module, path in known.items()}) == []


def test_a_circle_of_two_files_is_found(tmp_path: Path):
    known = {f"hfgen.{name}": tmp_path / f"{name}.py" for name in ("one", "two")}
    known["hfgen.one"].write_text("from hfgen import two\n")
    known["hfgen.two"].write_text("def late():\n    from hfgen.one import something\n")
    found = circle({module: imports(path, known) for module, path in known.items()})
    assert set(found) == known.keys()


def test_travelling_files_import_nothing_of_hfgen_but_behind_try():
    models = (f"models/hfgen_{name}_v1.py" for name in ("gan", "prior", "r3gan", "translator"))
    for name in ("pipelines/hfgen_pipelines_v1.py", *models):
        source = re.sub(r"\s*try\s*:.*?except.*?:", "", (ROOT / "hfgen" / name).read_text(), flags=re.DOTALL)
        assert "import hfgen" not in source and "from hfgen" not in source


def test_no_two_files_of_the_package_are_called_alike():
    """A verb's module in cli/ is called like the verb, whose work may lie in a module of that name."""
    names = Counter(Path(path).name for path in tracked("hfgen/*.py") if not path.startswith("hfgen/cli/"))
    assert [name for name, count in names.items() if count > 1 and name != "__init__.py"] == []


def test_files_keep_their_limits():
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in tracked("*.py")
        if not path.endswith("__init__.py")
    }
    assert {path for path, length in lengths.items() if length > MOST_LINES} == LONGER.keys()
    assert {path for path, length in lengths.items() if length < FEWEST_LINES} == SHORTER.keys()


def test_the_map_names_every_file_and_only_files_that_exist():
    block = (ROOT / "hfgen" / "README.md").read_text().split("## Map of the files")[1].split("```")[1]
    named = {line.split()[0].rstrip("/") for line in block.strip().splitlines() if line[:1].strip()}
    there = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("hfgen/**/*.py", "scripts/*", "hfgen/**/*.html", "hfgen/**/*.css", "hfgen/**/*.json")
        for path in ROOT.glob(pattern)
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.name not in ("__init__.py", "__main__.py", "README.md")
    }
    there = {path for path in there if str(Path(path).parent) not in named}
    assert there - named == set(), "files that hfgen/README.md doesn't name"
    assert all((ROOT / name).exists() for name in named), "hfgen/README.md names what doesn't exist"


def test_the_map_is_in_the_order_of_imports():
    block = (ROOT / "hfgen" / "README.md").read_text().split("## Map of the files")[1].split("```")[1]
    # What holds no code, as schemas/ and model_cards/, lies beside what reads it.
    parts = [Path(line.split()[0]).with_suffix("").parts for line in block.strip().splitlines()]
    order = [LAYERS.index(part[1]) for part in parts if part[0] == "hfgen" and part[1] in LAYERS]
    assert order == sorted(order)


def test_the_routes_lead_to_what_they_name():
    """`NAME` in `FILE`: the file defines it; every other path is there too."""
    routes = (ROOT / "hfgen" / "README.md").read_text().split("## Map of the files")[0]
    named = re.findall(r"`([\w.]+)` in `([\w/.]+\.py)`", routes)
    assert len(named) >= 10
    for name, path in named:
        file = ROOT / path if path.startswith("tests/") else ROOT / "hfgen" / path
        assert definitions(file).issuperset({name}), f"{path} defines no {name}"
    for path in re.findall(r"`([\w/]+(?:/|\.py))`", routes):
        assert (ROOT / path).exists() or (ROOT / "hfgen" / path).exists(), path


def definitions(path: Path) -> set[str]:
    """Names of a file's functions, classes and constants; `Class.method` of methods."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_top_level_holds_the_layout_and_what_begins_with_a_dot():
    top = {path.split("/")[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} <= set(TOP_LEVEL)
