"""`hfgen doctor`: what a bug report needs, also where packages are missing or broken."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from commands import hfgen

from hfgen import __version__, doctor


def found(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {line[:24].strip(): line[25:] for line in done.stdout.splitlines()}


def test_doctor_says_what_this_machine_can_do():
    said = found(hfgen("doctor"))
    assert said["hfgen"].startswith(__version__) and said["torch"] == version("torch")
    assert {"python", "system", "cores", "memory", "GPU", "device", "training", "cache", "Hub cache"} <= said.keys()
    assert {"diffusers", "scipy", "offline", "accelerate config", "browser", "Space"} <= said.keys()
    assert not any("broken" in finding for finding in said.values()), said


def test_a_broken_package_is_a_finding_and_a_token_is_never_shown(tmp_path: Path):
    (tmp_path / "diffusers").mkdir()
    (tmp_path / "diffusers" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    (tmp_path / "psutil.py").write_text("raise ImportError('a symbol is missing')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    secret = "hf_" + "x" * 34
    said = found(
        hfgen("doctor", PYTHONPATH=path, HF_TOKEN=secret, HF_HUB_OFFLINE="1", ACCELERATE_MIXED_PRECISION="bf16")
    )
    assert secret not in "".join(said.values())
    assert said["diffusers"] == "broken: RuntimeError: operator torchvision::nms does not exist"
    assert said["memory"] == "broken: ImportError: a symbol is missing"
    assert said["Hub token"] == "yes" and said["offline"] == "HF_HUB_OFFLINE=1"
    assert said["accelerate config"].endswith("ACCELERATE_MIXED_PRECISION=bf16")


def test_it_works_without_any_package():
    """In an interpreter that sees the standard library alone."""
    root = Path(doctor.__file__).parents[1]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); from hfgen.cli import main; sys.exit(main(['doctor']))"
    said = found(subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True))
    assert said["torch"] == "missing: pip install torch"


def test_a_missing_package_is_one_line_of_every_verb(tmp_path: Path):
    (tmp_path / "diffusers.py").write_text("raise ModuleNotFoundError('No module named diffusers', name='diffusers')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = hfgen("train", "vae-glyphs", "--dry_run", PYTHONPATH=path)
    assert done.returncode == 2
    assert done.stderr == "hfgen: error: diffusers: this package isn't installed; `hfgen doctor` says what is missing\n"
