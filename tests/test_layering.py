"""Imports go down the list of layers only, and the map of the files in hfgen/README.md is true."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS = [
    ("errors", "extras", "seeds", "bars", "data_options"),
    ("files",),
    ("documents", "folders"),
    ("hub",),
    ("images",),
    ("devices",),
    ("outputs",),
    ("recipes",),
    ("data",),
    ("models",),
    ("pipelines",),
    ("objectives",),
    ("training",),
    ("families",),
    ("configs",),
    ("metrics",),
    ("reporting",),
    ("evaluation.workspace", "evaluation.card"),
    ("evaluation.measurement", "evaluation.dataset"),
    ("evaluation.held_out",),
    ("evaluation.evaluate", "evaluation.verification", "evaluation.timing"),
    ("evaluation.finished", "evaluation.samples"),
    ("comparison.protocol", "comparison.names"),
    ("comparison.reading", "comparison.figures", "comparison.differences"),
    ("comparison.galleries",),
    ("comparison.report",),
    ("comparison.compare",),
    ("comparison.measuring",),
    ("diagnosis",),
    ("publishing",),
    ("quickstart", "doctor", "space"),
    ("studies",),
    ("cli",),
    ("__main__",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def layer_of(module: str) -> str | None:
    """`evaluation.evaluate` of hfgen.evaluation.evaluate, `data` of hfgen.data.store; None of what is in no layer."""
    parts = module.split(".")[1:]
    return next((name for name in (".".join(parts[:2]), parts[0] if parts else "") if name in RANK), None)


def imports(path: Path) -> set[str]:
    """Names of the hfgen layers that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            modules = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {layer for name in modules if name.startswith("hfgen.") and (layer := layer_of(name))}
    return found


def test_imports_go_down_only():
    for path in sorted((ROOT / "hfgen").rglob("*.py")):
        if path.name == "__init__.py" and path.parent.name in ("hfgen", "evaluation", "comparison"):
            continue
        layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert layer, f"{path.relative_to(ROOT)} is in no layer"
        for other in imports(path) - {layer}:
            assert RANK[other] < RANK[layer], f"{path.relative_to(ROOT)} imports {other}, which lies above it"


def test_travelling_files_import_nothing_of_hfgen_but_behind_try():
    models = (f"models/hfgen_{name}_v1.py" for name in ("gan", "prior", "r3gan", "translator"))
    for name in ("pipelines/hfgen_pipelines_v1.py", *models):
        source = re.sub(r"\s*try\s*:.*?except.*?:", "", (ROOT / "hfgen" / name).read_text(), flags=re.DOTALL)
        assert "import hfgen" not in source and "from hfgen" not in source


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


def test_top_level_holds_only_the_design_card():
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    allowed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "constraints.txt",
        "hfgen",
        "spaces",
        "scripts",
        "tests",
    }
    top = {line.split("/")[0] for line in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed | {"model_cards"}
