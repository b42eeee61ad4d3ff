"""README.md: every block of bash and Python, pasted in order into one shell, as a newcomer does.

The data and the models are tiny: a `hfgen` before the real one adds options (TOY, and 100 glyphs as data), the
evaluator of the Python block gets these too, and nothing else changes. The environment is that of
`scripts/quickstart.sh`, finished already, so that nothing is downloaded. Only `scripts/test.sh`, which runs these
tests, is left out. The diagnosis, half of the time, is made by the slow test alone; the other only reads its options.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from ports import free_port

from hfgen.data import draw
from hfgen.images import to_pil

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RUN = ("bash", "python")
SHOWN = ("text", "bibtex", "yaml", "json")

TOY = {
    "quickstart": ["--max_images=64", "--n=24"],
    "train": ["--max_images=64", "--batch_size=16", "--resolution=16", "--model.width=16", "--model.max_width=16"],
    "evaluate": ["--n=24"],
    "compare": ["--n=24"],
    "diagnose": ["--n=24"],
}

# `hfgen space` serves until Ctrl-C: here the page is fetched, then the server gets that Ctrl-C.
COMMAND = """#!{python}
import os, re, signal, subprocess, sys, urllib.request

words = sys.argv[1:]
toy = {toy!r}
real = [sys.executable, "-m", "hfgen", *words]
if words[0] in toy and not {{"--help", "--verify"}} & {{*words}}:
    real += toy[words[0]]
    real += ["--data", os.environ.get("SMALL_DATA", "glyphs")]
if words[0] == "diagnose" and "WITH_DIAGNOSIS" not in os.environ:
    from hfgen.cli.command import _parser

    _, unknown = _parser().parse_known_args(words)
    sys.exit(f"unknown: {{unknown}}" if unknown else 0)
if words[0] != "space":
    sys.exit(subprocess.call(real))
os.environ["PYTHONUNBUFFERED"] = "1"
# A job in the background is born deaf to Ctrl-C, and so would the server be.
signal.signal(signal.SIGINT, signal.SIG_DFL)
server = subprocess.Popen([*real, "--port", os.environ["SPACE_PORT"]], stdout=subprocess.PIPE, text=True)
address = next(found[0] for line in server.stdout if (found := re.search(r"http://[0-9.]+:[0-9]+", line)))
page = urllib.request.urlopen(address).read().decode()
server.send_signal(signal.SIGINT)
assert "gradio" in page.lower() and server.wait(60) in (0, 130), server.returncode
print("served", address)
"""


def blocks() -> list[tuple[str, str]]:
    """(language, text) of each fenced block, in order."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert all(language in (*RUN, *SHOWN) for language, _ in found), [language for language, _ in found]
    return found


def pasted() -> str:
    """The blocks as one session of bash, which ends at the first line that fails."""
    lines = ["set -e -o pipefail"]
    for language, group in itertools.groupby(blocks(), key=lambda block: block[0]):
        texts = [text for _, text in group]
        if language == "python":
            # Those that follow each other share an interpreter, but no names.
            small = ('Evaluator("glyphs"', 'Evaluator(__import__("os").environ["SMALL_DATA"]')
            runs = (f"exec({text.replace(*small)!r}, {{}})" for text in texts)
            lines += ["python - <<'END OF BLOCKS'", *runs, "END OF BLOCKS"]
        elif language == "bash":
            lines += [
                line for text in texts for line in text.splitlines() if not line.startswith("bash scripts/test.sh")
            ]
        lines += [f"echo 'done: block of {language}'" for _ in texts]
    return "\n".join(lines) + "\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout whose environment is finished: `.venv` sees the packages of the one that runs the tests."""
    folder = tmp_path / "hfgen"
    folder.mkdir()
    for name in ("hfgen", "scripts", "pyproject.toml", "constraints.txt", "README.md", "spaces"):
        (folder / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    site = next((folder / ".venv").glob("lib/python*/site-packages"))
    (site / "these.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    command = folder / ".venv" / "bin" / "hfgen"
    command.write_text(COMMAND.format(python=folder / ".venv" / "bin" / "python", toy=TOY))
    command.chmod(0o755)
    stamp = subprocess.check_output(["bash", "-c", "source scripts/environment.sh; _stamp"], cwd=folder)
    (folder / ".venv" / "installed-space").write_bytes(stamp)
    return folder


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """100 glyphs to train on and 100 others, in the size of the recipes."""
    for split in ("train", "test"):
        for index, image in enumerate(to_pil(draw("glyphs", split, 0, 100, 32).images)):
            path = tmp_path / "glyphs" / split / "abc"[index % 3] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return tmp_path / "glyphs"


@pytest.mark.parametrize("diagnosis", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_block_works_when_pasted_in_order(diagnosis: bool, clone: Path, small_data: Path):
    pytest.importorskip("gradio")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPACE_PORT": str(free_port()), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "SMALL_DATA": str(small_data)}
    environment |= {"WITH_DIAGNOSIS": "1"} if diagnosis else {}
    session = subprocess.run(
        ["bash"], input=pasted(), capture_output=True, text=True, cwd=clone, env=environment, timeout=1150
    )
    assert session.returncode == 0, session.stdout[-2000:] + session.stderr[-3000:]
    assert session.stdout.count("done: block") == len(blocks()) and "served http" in session.stdout
    assert (clone / "runs" / "quickstart" / "report.html").is_file()
    for option in re.findall(r"--out (\S+)", pasted()):
        assert (clone / option).exists() or (option == "runs/why" and not diagnosis), option


def test_what_quickstart_prints_at_its_end_works_when_pasted(clone: Path):
    """From the checkout and from elsewhere, where the path is given in full."""
    for here, expected in ((clone, "source .venv/bin/activate"), (clone.parent, f"source {clone}/.venv/bin/activate")):
        script = clone / "scripts" / "quickstart.sh"
        said = subprocess.run(["bash", "-x", script, "--help"], capture_output=True, text=True, cwd=here)
        assert said.returncode == 0, said.stderr
        assert f"HFGEN_ACTIVATE={shlex.quote(expected)}" in said.stderr
        path = "unset PATH; PATH=/usr/bin:/bin; " + expected + " && command -v hfgen"
        found = subprocess.run(["bash", "-c", path], capture_output=True, text=True, cwd=here, check=True)
        assert found.stdout.strip() == str(clone / ".venv" / "bin" / "hfgen")
